"""One Whisper at work: windows of audio in, text, words with times and the model's doubts out.

CTranslate2 is used directly, with faster-whisper's log-mel and tokenizer. A batch of windows goes
through the encoder once; the language, the text, the probability that nobody speaks, the times of
the words heard and those of a given text all come from that one pass. faster-whisper's own
pipelines take one recording at a time, and encode again for the language.

Two things differ from OpenAI's and faster-whisper's programs, on purpose:

- Text is written without timestamps, so that a window of at most 30 s is one pass; words get their
  times from the cross-attention (Radford et al. 2022; dynamic time warping as in openai/whisper).
- Where the text fails Whisper's limits, Whisper draws texts at rising temperatures. CTranslate2's
  random generator belongs to a thread and cannot be seeded again once used
  (OpenNMT/CTranslate2#1757), so what is drawn would depend on everything drawn before, and a run
  that was interrupted would end differently. Instead the beam search is done again in two other
  ways (`FALLBACKS`), all failed windows of a batch at once. The same window gives the same text.
"""

import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from corpus.audio import SAMPLE_RATE, Pcm
from corpus.cuda import open_cublas
from corpus.errors import UserError
from corpus.text import clean_transcript

WINDOW_SECONDS = 30.0
HOP = 160
"""Samples between two frames of the log-mel spectrogram: 10 ms."""
FRAMES = round(WINDOW_SECONDS * SAMPLE_RATE) // HOP
POSITION_SECONDS = 0.02
"""Time between two positions of the encoder, the unit of alignment."""

BEAM_SIZE = 5
MAX_COMPRESSION_RATIO = 2.4
MIN_LOGPROB = -1.0
NO_SPEECH_PROB = 0.6
"""Whisper's limits: a text that compresses better is a loop, one less probable is a guess, and
where nobody is likely to speak a guess is left as it is (Radford et al. 2022, section 4.5)."""

MAX_CONTEXT = 448
"""Tokens that the decoder can hold."""
MEDIAN_FILTER = 7
"""Positions over which attention is smoothed before words are timed."""
MIN_ALIGNED_SECONDS = 0.1
"""Less audio has fewer positions than the median filter is wide."""
LONG_WORD_SECONDS = 1.4
"""No word at the edge of a window is longer; it has taken in silence. (Twice 0.7 s, as in
openai/whisper.)"""
PAUSE_SECONDS = 0.06
"""Less quiet at the edge of a word is a consonant's."""
LOUD_SHARE = 0.25
"""Of the way from a window's pauses to its speech, in log-mel: what is above is loud. Measured on
synthetic speech at 15 to 50 dB over noise, first words then begin within 0.01 s (median)."""

PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after it or before it."""


class Word(NamedTuple):
    """A word and where in its window it is heard (seconds)."""

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True)
class Window:
    """What one encoder pass is made on.

    Attributes:
        features: float32 [mels, 3000], the log-mel spectrogram.
        seconds: length of the audio; silence follows.
        text: one that is to be aligned too.
        voice_share: how much of it is voice by another model, where that was asked.
    """

    features: "np.ndarray[Any, np.dtype[np.float32]]"
    seconds: float
    text: str | None = None
    voice_share: float | None = None


@dataclass(frozen=True)
class Heard:
    """What the model makes of a window.

    Attributes:
        text: clean; empty where nothing was heard.
        words: of the text; empty where the model cannot align.
        avg_logprob: mean log-probability (natural) of a token, end of text included.
        no_speech_prob: probability that nobody speaks.
        compression_ratio: of the text by zlib; a loop has a high one.
        language_prob: probability of the language that was asked for.
        fallback: 0 where the first beam search stood, else the number of the one taken.
        given_words: of the window's own text, where it has one and it could be aligned.
    """

    text: str
    words: list[Word]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    language_prob: float
    fallback: int = 0
    given_words: list[Word] | None = None


@dataclass(frozen=True)
class _Decoded:
    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float
    fallback: int

    @property
    def is_loop(self) -> bool:
        return compression_ratio(self.text) > MAX_COMPRESSION_RATIO

    @property
    def failed(self) -> bool:
        unsure = self.avg_logprob < MIN_LOGPROB
        return self.is_loop or (unsure and self.no_speech_prob <= NO_SPEECH_PROB)


FALLBACKS: list[dict[str, Any]] = [{"timestamps": True}, {"no_repeat_ngram_size": 3}]
"""How a window is decoded again that failed, in this order: with timestamps, which leads the beam
elsewhere, and with no three tokens twice, which ends loops."""


class Whisper:
    """A loaded model that listens for one language.

    Args:
        path: a CTranslate2 folder with its tokenizer.
        language: the language token to force.
        device: auto, cpu or cuda.
        compute_type: CTranslate2's, such as float16 or int8.

    Raises:
        UserError: the model cannot be loaded, or knows no such language.
    """

    def __init__(
        self, path: str, language: str, *, device: str = "auto", compute_type: str = "default"
    ) -> None:
        import ctranslate2
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer

        # A CPU has no float16; that the weights are widened for it is no warning to a user.
        ctranslate2.set_log_level(logging.ERROR)
        config = _config(Path(path))
        if device != "cpu":
            open_cublas()
        try:
            loaded: Any = WhisperModel(path, device=device, compute_type=compute_type)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"the model {path} cannot be loaded: {reason}") from error
        if language not in loaded.supported_languages:
            raise UserError(
                f"{Path(path).name} knows no language {language!r}; give a related one that it "
                "knows with --language-token"
            )
        self.model = loaded.model
        self.language = language
        self.tokenizer = Tokenizer(
            loaded.hf_tokenizer, self.model.is_multilingual, task="transcribe", language=language
        )
        self.can_align = bool(config.get("alignment_heads"))
        self._extract = loaded.feature_extractor

    def features(self, pcm: Pcm) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Log-mel float32 [mels, 3000] of int16 PCM [samples] of at most 30 s, then silence.

        As if the audio had been filled up with zeros, as in Whisper's training; only the frames
        that the audio reaches are computed, since all of silence is the spectrogram's floor.
        """
        reached = -(-pcm.size // HOP) * HOP + 2 * HOP  # half a window of 400 samples further
        samples = np.zeros(reached, np.float32)
        samples[: pcm.size] = pcm.astype(np.float32) / 32768.0
        mel = self._extract(samples, padding=0)
        # Scaled as (x + 4) / 4, the floor is 8 below the peak, and never below -10.
        floor = max(-1.5, float(mel.max()) - 2.0)
        window = np.full((mel.shape[0], FRAMES), floor, np.float32)
        window[:, : mel.shape[1]] = mel[:, :FRAMES]
        return window

    def __call__(self, windows: Sequence[Window]) -> list[Heard]:
        """Listen to a batch of windows, with one pass of the encoder."""
        import ctranslate2

        stacked = np.stack([window.features for window in windows])
        encoded = self.model.encode(ctranslate2.StorageView.from_array(stacked))
        language_probs = self._language_probs(encoded, len(windows))
        decoded = self._decode(encoded, len(windows), fallback=0)
        seconds = [window.seconds for window in windows]
        decoded = self._fall_back(encoded, decoded, seconds)
        words = self._align(encoded, [one.tokens for one in decoded], windows)
        given = [self._encode_text(window.text) for window in windows]
        given_words = self._align(encoded, given, windows)
        return [
            Heard(
                text=one.text,
                words=own,
                avg_logprob=one.avg_logprob,
                no_speech_prob=one.no_speech_prob,
                compression_ratio=compression_ratio(one.text),
                language_prob=language_prob,
                fallback=one.fallback,
                given_words=others or None,
            )
            for one, own, others, language_prob in zip(
                decoded, words, given_words, language_probs, strict=True
            )
        ]

    def _language_probs(self, encoded: Any, count: int) -> list[float]:
        if not self.model.is_multilingual:
            return [1.0] * count
        token = f"<|{self.language}|>"
        return [dict(found).get(token, 0.0) for found in self.model.detect_language(encoded)]

    def _decode(
        self,
        encoded: Any,
        count: int,
        *,
        fallback: int,
        timestamps: bool = False,
        no_repeat_ngram_size: int = 0,
    ) -> list[_Decoded]:
        prompt = list(self.tokenizer.sot_sequence)
        if not timestamps:
            prompt.append(self.tokenizer.no_timestamps)
        results = self.model.generate(
            encoded,
            [prompt] * count,
            beam_size=BEAM_SIZE,
            no_repeat_ngram_size=no_repeat_ngram_size,
            max_length=MAX_CONTEXT,
            return_scores=True,
            return_no_speech_prob=True,
        )
        decoded = []
        for result in results:
            tokens = [t for t in result.sequences_ids[0] if t < self.tokenizer.eot]
            length = len(result.sequences_ids[0])
            decoded.append(
                _Decoded(
                    tokens,
                    clean_transcript(self.tokenizer.decode(tokens)),
                    # The score is a mean over the tokens without the end of text, which it counts.
                    float(result.scores[0]) * length / (length + 1),
                    float(result.no_speech_prob),
                    fallback,
                )
            )
        return decoded

    def _fall_back(
        self, encoded: Any, decoded: list[_Decoded], seconds: list[float]
    ) -> list[_Decoded]:
        """Decode the windows that failed again, in each other way until one passes.

        Where none does, the most probable text that is no loop is taken. What another way writes
        is judged by the model as it is, not by the scores of a search that was kept from its way.
        """
        tried = {i: [one] for i, one in enumerate(decoded) if one.failed}
        for number, way in enumerate(FALLBACKS, start=1):
            failed = [i for i, found in tried.items() if found[-1].failed]
            if not failed or not self.can_align:
                break
            chosen = _rows(encoded, failed)
            again = self._decode(chosen, len(failed), fallback=number, **way)
            texts = [one.tokens for one in again]
            logprobs = self._logprobs(chosen, texts, [seconds[i] for i in failed])
            for i, one, logprob in zip(failed, again, logprobs, strict=True):
                tried[i].append(replace(one, avg_logprob=logprob))
        best = {
            i: found[-1] if not found[-1].failed
            else max(found, key=lambda one: (not one.is_loop, one.avg_logprob))
            for i, found in tried.items()
        }  # fmt: skip
        return [best.get(i, one) for i, one in enumerate(decoded)]

    def _encode_text(self, text: str | None) -> list[int]:
        """Tokens of a text, none where it is too long for the decoder."""
        # A text cannot spell a control token.
        tokens = self.tokenizer.encode(" " + text.strip().replace("<|", "< |")) if text else []
        return tokens if len(tokens) <= MAX_CONTEXT - 6 else []

    def _aligned(self, encoded: Any, texts: list[list[int]], seconds: list[float]) -> list[Any]:
        return self.model.align(
            encoded,
            self.tokenizer.sot_sequence,
            texts,
            [round(max(s, MIN_ALIGNED_SECONDS) * SAMPLE_RATE / HOP) for s in seconds],
            median_filter_width=MEDIAN_FILTER,
        )

    def _logprobs(self, encoded: Any, texts: list[list[int]], seconds: list[float]) -> list[float]:
        """Mean log-probability of each text's tokens; an empty text has none."""
        return [
            float(np.mean(np.log(np.maximum(found.text_token_probs, 1e-30))))
            if found.text_token_probs
            else -np.inf
            for found in self._aligned(encoded, texts, seconds)
        ]

    def _align(
        self, encoded: Any, texts: list[list[int]], windows: Sequence[Window]
    ) -> list[list[Word]]:
        """The words of each text; none of an empty one, of too little audio, or without heads."""
        if not self.can_align or not any(texts):
            return [[] for _ in texts]
        aligned = self._aligned(encoded, texts, [window.seconds for window in windows])
        return [
            self._words(tokens, found, window)
            if tokens and window.seconds >= MIN_ALIGNED_SECONDS
            else []
            for tokens, found, window in zip(texts, aligned, windows, strict=True)
        ]

    def _words(self, tokens: list[int], found: Any, window: Window) -> list[Word]:
        texts, pieces = self.tokenizer.split_to_word_tokens([*tokens, self.tokenizer.eot])
        first_token = np.cumsum([0, *(len(piece) for piece in pieces)])[:-1]
        token, position = np.array(found.alignments).T
        # The first position of each token; the path visits every one.
        at = position[np.searchsorted(token, np.arange(len(tokens) + 1))] * POSITION_SECONDS
        words = [
            Word(
                float(at[first]),
                float(at[following]),
                text,
                float(np.mean(found.text_token_probs[first:following])),
            )
            for text, first, following in zip(
                texts[:-1], first_token[:-1], first_token[1:], strict=True
            )
        ]
        words = _without_silence(_with_punctuation(words), _loud(window.features, window.seconds))
        return [
            word._replace(start=min(word.start, window.seconds), end=min(word.end, window.seconds))
            for word in words
        ]


def _rows(encoded: Any, rows: list[int]) -> Any:
    """Some windows of an encoder's output."""
    import ctranslate2

    if encoded.dtype == ctranslate2.DataType.bfloat16:  # which numpy does not know
        encoded = encoded.to(ctranslate2.DataType.float32)
    on_host = np.asarray(encoded.to_device(ctranslate2.Device.cpu))
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(on_host[rows]))


def _with_punctuation(words: list[Word]) -> list[Word]:
    """Words with the punctuation beside them, each text stripped and clean."""
    joined: list[Word] = []
    waiting: list[Word] = []  # what belongs to the word that comes
    for word in words:
        mark = word.text.strip()
        if mark and mark in PREPENDED and word.text.startswith(" "):
            waiting.append(word)
        elif mark and mark in APPENDED and joined and not waiting:
            joined[-1] = joined[-1]._replace(text=joined[-1].text + mark)
        else:
            before = "".join(w.text.strip() for w in waiting)
            joined.append(word._replace(text=before + mark))
            waiting = []
    joined += waiting
    cleaned = [word._replace(text=clean_transcript(word.text)) for word in joined]
    return [word for word in cleaned if word.text]


def _loud(features: "np.ndarray[Any, np.dtype[np.float32]]", seconds: float) -> Any:
    """Which positions of a window (20 ms) are louder than its pauses: bool [positions]."""
    positions = max(1, round(seconds / POSITION_SECONDS))
    levels = features[:, : 2 * positions].mean(axis=0).reshape(-1, 2).mean(axis=1)
    quiet, speech = np.quantile(levels, [0.05, 0.95])
    return levels > quiet + LOUD_SHARE * (speech - quiet)


def _without_silence(words: list[Word], loud: Any) -> list[Word]:
    """Words that are as long as they are heard.

    The path through the attention gives every moment to a word: the pause before a word is its
    own, and the first begins with the window, however late it is spoken. The last one is often
    left before it is over. So a word begins where it gets loud and ends where it gets quiet, if it
    has more than a moment of quiet; and the first and the last are at most twice as long as most,
    as in openai/whisper.
    """
    lengths = [word.end - word.start for word in words if word.end > word.start]
    if not lengths:
        return words
    longest = min(LONG_WORD_SECONDS, 2 * float(np.median(lengths)))
    words = [_trimmed(word, loud) for word in words]
    first, last = words[0], words[-1]
    words[0] = first._replace(start=max(first.start, first.end - longest))
    still = loud[round(last.end / POSITION_SECONDS) :]
    end = last.end + POSITION_SECONDS * float(np.argmin([*still, False]))
    words[-1] = words[-1]._replace(end=min(end, max(last.end, last.start + longest)))
    return words


def _trimmed(word: Word, loud: Any) -> Word:
    heard = np.flatnonzero(loud[_positions(word)])
    if not heard.size:
        return word
    start = word.start + POSITION_SECONDS * float(heard[0])
    end = word.start + POSITION_SECONDS * float(heard[-1] + 1)
    return word._replace(
        start=start if start - word.start >= PAUSE_SECONDS else word.start,
        end=end if word.end - end >= PAUSE_SECONDS else word.end,
    )


def _positions(word: Word) -> slice:
    return slice(round(word.start / POSITION_SECONDS), round(word.end / POSITION_SECONDS))


def compression_ratio(text: str) -> float:
    """Bytes of a text over its bytes under zlib, as in openai/whisper; 0 for none."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _config(folder: Path) -> dict[str, Any]:
    """What a CTranslate2 folder says of its model.

    Raises:
        UserError: it suppresses tokens that the model does not have; CTranslate2 would write beyond
            its memory for them.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vocabulary = next(folder.glob("vocabulary.*"))
        words = vocabulary.read_text(encoding="utf-8")
        # Older converters wrote a line for each word.
        size = len(json.loads(words) if vocabulary.suffix == ".json" else words.splitlines())
    except (OSError, ValueError, StopIteration):  # loading will tell what is missing
        return {}
    named = [*(config.get("suppress_ids") or []), *(config.get("suppress_ids_begin") or [])]
    if any(token >= size for token in named):
        raise UserError(
            f"{folder}: suppresses token {max(named)}, and the model has {size}; take such tokens "
            "out of generation_config.json of the model that it was converted from"
        )
    return config
