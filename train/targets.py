"""What the decoder is asked to write for a window, and which of its tokens carry loss.

The format is Whisper's own (Radford et al. 2022, section 2.3):

    <|startofprev|> previous text ... <|startoftranscript|> <|en|> <|transcribe|>
        <|0.44|> Hello world.<|2.42|><|2.90|> This is a test.<|5.04|> <|endoftext|>

Consecutive utterances give a pair of timestamps, a window whose last utterance goes on beyond it
ends with the lone start of that utterance, and a window in which nothing more is said ends with a
single timestamp. Long-form decoders (openai-whisper, Transformers, faster-whisper) move on by
exactly these rules, so a model that forgets them skips speech at window borders.

Everything here is a pure function of its arguments; what is random is drawn from the seed, the
epoch and the window's id, so it changes every epoch and depends neither on workers nor on a resume.
"""

import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from corpus.errors import UserError
from corpus.pack import GRID_SECONDS, MAX_TOKENS

LAST_TICK = 1500
"""The timestamps are <|0.00|> to <|30.00|>, a tick every 0.02 s."""

MAX_OVERLAP_TICKS = 3
"""Utterances that overlap by no more than 60 ms are set apart; beyond that they become one."""

MAX_PREVIOUS_TOKENS = 223
"""What decoders keep of the previous text: half of the positions, less <|startofprev|>."""

MIN_PREVIOUS_ROOM = 16
"""With less room than this, the previous text is left out: it would be a fragment."""

IGNORED = -100
"""A label without loss."""

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces between words: no space before an utterance either."""

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the control tokens of one tokenizer."""

    start: int
    end: int
    previous: int
    transcribe: int
    no_speech: int
    no_timestamps: int
    languages: Mapping[str, int]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """Look the tokens up by name, so that any Whisper vocabulary serves.

        Raises:
            UserError: the tokenizer is not a multilingual Whisper's.
        """
        ids = tokenizer.get_vocab()

        def find(*names: str) -> int:
            for name in names:
                if name in ids:
                    return int(ids[name])
            raise UserError(
                f"the tokenizer has no token {names[0]}; give --model a multilingual Whisper"
            )

        vocabulary = cls(
            start=find("<|startoftranscript|>"),
            end=find("<|endoftext|>"),
            previous=find("<|startofprev|>"),
            transcribe=find("<|transcribe|>"),
            no_speech=find("<|nospeech|>", "<|nocaptions|>"),
            no_timestamps=find("<|notimestamps|>"),
            languages={
                code: ids[f"<|{code}|>"] for code in known_languages() if f"<|{code}|>" in ids
            },
        )
        if find("<|30.00|>") != vocabulary.timestamp(LAST_TICK):
            raise UserError(
                "the tokenizer's timestamps do not follow <|notimestamps|>; "
                "tokens were added to it in between: use the original tokenizer"
            )
        return vocabulary

    def timestamp(self, tick: int) -> int:
        """Id of the timestamp `tick` * 0.02 s."""
        return self.no_timestamps + 1 + tick

    def language_code(self, language: str, proxy: str | None = None) -> str:
        """The language whose token stands for `language`: its own, or else the `proxy`'s.

        Raises:
            UserError: neither has a token.
        """
        for code in (language, proxy):
            if code is not None and code in self.languages:
                return code
        asked = f"no token for language {language!r}"
        if proxy is not None:
            raise UserError(f"the model has {asked} and none for --language-token {proxy!r} either")
        raise UserError(
            f"the model has {asked}; choose a related language it knows with --language-token"
        )


def known_languages() -> list[str]:
    """Codes of the languages Whisper has tokens for."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return list(LANGUAGES)


@dataclass(frozen=True)
class Utterance:
    """Speech in a window: seconds from its beginning; `end` is None if it goes on beyond.

    In a prompt, an `end` of None means that it is not known.
    """

    start: float
    end: float | None
    text: str
    source: str = ""

    def later(self, seconds: float) -> "Utterance":
        """The same so many seconds later."""
        return replace(
            self, start=self.start + seconds, end=None if self.end is None else self.end + seconds
        )

    def faster(self, speed: float) -> "Utterance":
        """The same in a window that is played `speed` times as fast."""
        end = None if self.end is None else self.end / speed
        return replace(self, start=self.start / speed, end=end)


@dataclass(frozen=True)
class Choices:
    """What was drawn for one window in one epoch."""

    timestamps: bool
    previous_text: bool
    no_speech_token: bool

    @classmethod
    def draw(cls, chance: random.Random) -> "Choices":
        """Each with probability one half, as in Whisper's own training."""
        return cls(*(chance.random() < 0.5 for _ in range(3)))


@dataclass(frozen=True)
class Target:
    """Decoder inputs, labels and the sources of these, all [tokens <= 448] and of equal length.

    The language and <|endoftext|> have no source (""). `silent_from` (seconds) is set when the
    audio from there on is not transcribed in this target and has to be silenced.
    """

    decoder_input_ids: list[int]
    labels: list[int]
    sources: list[str]
    silent_from: float | None = None


def build_target(
    utterances: Sequence[Utterance],
    language: str,
    choices: Choices,
    vocabulary: Vocabulary,
    encode: Encode,
    *,
    previous: Utterance | None = None,
    language_token: str | None = None,
) -> Target:
    """The target of one window.

    Loss falls on the language, timestamps, text, <|nospeech|> and <|endoftext|>; not on the
    previous text nor on what the caller of a decoder sets (task, <|notimestamps|>), nor on the
    language token if another language's stands in for it.

    Args:
        language: of the window's text.
        encode: text to token ids, without special tokens.
        previous: what was said just before in the same recording, in a window of its own.
        language_token: the language whose token to use where `language` has none.

    Raises:
        UserError: the language has no token.
        ValueError: the text does not fit into 448 tokens; it is never cut.
    """
    placed = place(utterances, language)
    code = vocabulary.language_code(language, language_token)
    prefix = [
        _Token(vocabulary.start),
        _Token(vocabulary.languages[code], learnt=code == language),
        _Token(vocabulary.transcribe),
    ]
    silent_from = None
    if not placed and choices.no_speech_token:
        # Decoders read the probability of silence at the position of <|startoftranscript|>.
        tokens = [_Token(vocabulary.start), _Token(vocabulary.no_speech, learnt=True)]
    elif placed and choices.timestamps:
        tokens = list(prefix)
        for said in placed:
            ids = [vocabulary.timestamp(said.start)]
            if said.end is not None:
                ids += [*encode(said.text), vocabulary.timestamp(said.end)]
            tokens += [_Token(token, True, said.source) for token in ids]
    else:
        tokens = [*prefix, _Token(vocabulary.no_timestamps)]
        for said in placed:
            if said.end is None:
                silent_from = said.start * GRID_SECONDS
            else:
                tokens += [_Token(token, True, said.source) for token in encode(said.text)]
    tokens.append(_Token(vocabulary.end, learnt=True))

    if previous and placed and choices.previous_text:
        room = min(MAX_PREVIOUS_TOKENS, MAX_TOKENS - len(tokens))
        if room >= MIN_PREVIOUS_ROOM:
            # The latest tokens, as decoders keep them.
            prompt = _prompt(previous, language, choices.timestamps, vocabulary, encode)
            tokens = [_Token(token) for token in [vocabulary.previous, *prompt[-room:]]] + tokens

    if len(tokens) - 1 > MAX_TOKENS:
        raise ValueError(f"a target of {len(tokens) - 1} tokens; the decoder has {MAX_TOKENS}")
    return Target(
        [token.id for token in tokens[:-1]],
        [token.id if token.learnt else IGNORED for token in tokens[1:]],
        [token.source for token in tokens[1:]],
        silent_from,
    )


class _Token(NamedTuple):
    """A token of a target, whether it carries loss, and the source of what it writes."""

    id: int
    learnt: bool = False
    source: str = ""


def _prompt(
    previous: Utterance, language: str, timestamps: bool, vocabulary: Vocabulary, encode: Encode
) -> list[int]:
    """A prompt as decoders make it of what they wrote: with timestamps if they write them."""
    tokens = encode(spaced(previous.text, language))
    if not timestamps or previous.end is None:
        return tokens
    ticks = _tick(previous.start), _tick(previous.end)
    return [vocabulary.timestamp(ticks[0]), *tokens, vocabulary.timestamp(ticks[1])]


@dataclass(frozen=True)
class Placed:
    """An utterance on the grid of timestamps, its text as it will be encoded."""

    start: int
    end: int | None
    text: str
    source: str


def place(utterances: Sequence[Utterance], language: str) -> list[Placed]:
    """Put utterances on the grid: in order, none empty, none overlapping.

    Those that overlap by up to 60 ms are set apart, others are merged. One that goes on beyond the
    window comes last.
    """
    placed: list[Placed] = []
    for utterance in sorted(utterances, key=lambda utterance: utterance.start):
        text = utterance.text.strip()
        if not text:
            continue
        free = placed[-1].end if placed else 0
        assert free is not None  # nothing is placed after an utterance that goes on
        start = min(_tick(utterance.start), LAST_TICK - 1)
        if utterance.end is None:
            placed.append(Placed(max(start, free), None, "", utterance.source))
            break
        end = max(_tick(utterance.end), start + 1)
        if start >= free:
            placed.append(Placed(start, end, spaced(text, language), utterance.source))
        elif free - start <= MAX_OVERLAP_TICKS and end > free:
            placed.append(Placed(free, end, spaced(text, language), utterance.source))
        else:
            last = placed.pop()
            joined = last.text + spaced(text, language)
            placed.append(replace(last, end=max(free, end), text=joined))
    return placed


def _tick(seconds: float) -> int:
    milliseconds = round(seconds * 1000)
    return min(max((milliseconds + 10) // 20, 0), LAST_TICK)


def spaced(text: str, language: str) -> str:
    """An utterance's text as it is encoded: NFC, after a space where the language has spaces.

    A text cannot spell a control token.
    """
    text = unicodedata.normalize("NFC", text.strip()).replace("<|", "< |")
    return text if language in UNSPACED else f" {text}"
