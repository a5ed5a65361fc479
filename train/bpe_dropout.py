"""BPE dropout: in training, a word is now and then written in smaller tokens.

Provilkov et al. 2020: at each merge every applicable merge is left out with probability `rate`, so
the model learns what the pieces of its tokens sound like, which helps most where words are rare;
Whisper's large-v2 was trained with 0.1 (Radford et al. 2022, table 18).

The `tokenizers` library has this built in, but draws from a generator that cannot be seeded, so a
resumed run would read other targets, and writes its setting into every tokenizer.json saved
meanwhile, where it stays on in production. Here the tokenizer is only read.
"""

import json
import random
from typing import Any

from train.targets import Encode


class BpeDropout:
    """Encodes texts as a Whisper tokenizer does, with some merges left out.

    Args:
        tokenizer: a fast Whisper tokenizer; not changed.
        rate: probability of leaving out a merge, 0 to 1; at 0 the tokenizer's own tokens.
    """

    def __init__(self, tokenizer: Any, rate: float) -> None:
        backend = tokenizer.backend_tokenizer
        model = json.loads(backend.to_str())["model"]
        self.rate = rate
        self.split = backend.pre_tokenizer.pre_tokenize_str
        self.ids: dict[str, int] = model["vocab"]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def encoder(self, chance: random.Random) -> Encode:
        """A function from a text to its token ids that draws from `chance`."""

        def encode(text: str) -> list[int]:
            words = (word for word, _ in self.split(text))
            return [self.ids[token] for word in words for token in self._merge(word, chance)]

        return encode

    def _merge(self, word: str, chance: random.Random) -> list[str]:
        tokens = list(word)
        while len(tokens) > 1:
            best, where = None, -1
            for at in range(len(tokens) - 1):
                rank = self.ranks.get((tokens[at], tokens[at + 1]))
                if rank is None or (best is not None and rank >= best):
                    continue
                if chance.random() >= self.rate:
                    best, where = rank, at
            if best is None:
                break
            tokens[where : where + 2] = [tokens[where] + tokens[where + 1]]
        return tokens
