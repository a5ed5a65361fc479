"""Times of a text's words from any wav2vec2-CTC model: the other engine of alignment.

A CTC model says for every 20 ms which character is spoken. The best path through these that spells
the text (Viterbi; Graves et al. 2006, Kürzinger et al. 2020) times its words more closely than the
attention of a Whisper, and a model of the language itself knows it where Whisper guesses. Costs:
one pass of the model, and some 40 ms for a text of 350 characters in 30 s of audio.

A character that the model does not write, such as a digit, is a wildcard: it fits whatever is
spoken there. What lies before and after the text is a wildcard too, so the stretch may be wider
than the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import select

from corpus import audio, engine
from corpus.align import MAX_SHIFT_MS, Word
from corpus.catalogue import Catalogue, Score, Segment, Transcript
from corpus.errors import ItemError, UserError
from corpus.workspace import Workspace

WINDOW_SECONDS, CONTEXT_SECONDS = 30.0, 3.0
"""Longer audio goes through the model in windows, with so much more on each side to listen to."""

ANYTHING = -1
"""A wildcard among tokens: some character, but no blank."""

LOGPROB_FRAMES = 30
"""A text is as good as its worst stretch of so many frames (Kürzinger et al. 2020)."""

LOGPROB = "ctc_logprob"
"""Name of the score: the mean log-probability of that stretch."""
WORST_LOGPROB = -100.0
"""Of a text that is longer than its audio can hold."""

Array = np.ndarray[Any, np.dtype[Any]]


def viterbi(log_probs: Array, tokens: Sequence[int], blank: int) -> tuple[Array, Array]:
    """The best path through a CTC model's output that writes the tokens, and anything around them.

    Args:
        log_probs: float [frames, vocabulary], natural logarithms.
        tokens: [n] indices of the vocabulary, or `ANYTHING`; at least one.
        blank: index of the blank.

    Returns:
        int [n, 2], the first frame of each token and the frame after its last; and float [frames],
        the log-probability on the path.

    Raises:
        ValueError: there are fewer frames than the tokens take.
    """
    frames, n = len(log_probs), len(tokens)
    token = np.asarray(tokens)
    voiced = np.delete(log_probs, blank, axis=1).max(axis=1)
    # States: around, y1, blank, y2, blank, ... yn, around. What is around is what is most probable
    # there: were it certain, a doubtful word would be given away for it.
    states = 2 * n + 1
    emitted = np.empty((frames, states), log_probs.dtype)
    emitted[:, 0::2] = log_probs[:, [blank]]
    emitted[:, 1::2] = np.where(token == ANYTHING, voiced[:, None], log_probs[:, token])
    emitted[:, [0, -1]] = log_probs.max(axis=1)[:, None]
    # From one token straight to the next, unless they are equal: then a blank must be between.
    skips = np.full(states, -np.inf)
    skips[3::2] = np.where(token[1:] == token[:-1], -np.inf, 0.0)
    score = np.full(states, -np.inf)
    score[:2] = emitted[0, :2]
    came = np.zeros((frames, states), np.int8)
    for frame in range(1, frames):
        stay, go, skip = score, score[:-1], score[:-2] + skips[2:]
        best = np.maximum(stay[1:], go)
        came[frame, 1:] = go > stay[1:]
        came[frame, 2:][skip > best[1:]] = 2
        np.maximum(best[1:], skip, out=best[1:])
        score = np.concatenate([stay[:1], best]) + emitted[frame]
    state = states - 1 if score[-1] >= score[-2] else states - 2
    if not np.isfinite(score[state]):
        raise ValueError(f"{n} tokens do not fit into {frames} frames")
    path = np.empty(frames, int)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    spans = np.searchsorted(path, 2 * np.arange(n)[:, None] + [1, 2])
    on_path = emitted[np.arange(frames), path]
    return spans, on_path


@dataclass(frozen=True)
class Aligned:
    """The words of a text with their times (ms from the start of the audio), and how well it fits.

    `logprob` is the mean log-probability of the worst `LOGPROB_FRAMES` of it.
    """

    words: list[Word]
    logprob: float


class Aligner:
    """A wav2vec2-CTC model of a local folder, with its tokenizer and feature extractor.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        try:
            self._model = AutoModelForCTC.from_pretrained(folder, local_files_only=True).eval()
            self._features = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{folder}: no CTC model; give a folder with a wav2vec2 model, its tokenizer and "
                f"its feature extractor ({reason})"
            ) from error
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(device)
        self._device = device
        self._ids: dict[str, int] = tokenizer.get_vocab()
        self._blank = int(self._model.config.pad_token_id)
        self._between = self._ids.get(getattr(tokenizer, "word_delimiter_token", None) or "|")
        self._hop = int(self._model.config.inputs_to_logits_ratio)

    def __call__(self, pcm: audio.Pcm, text: str) -> Aligned | None:
        """Time the words of a text in int16 PCM [samples] at 16 kHz; None where it cannot be there.

        Words without a letter or digit, such as dashes, are left out.
        """
        written = [(word, ids) for word in text.split() if (ids := self._tokens(word))]
        tokens: list[int] = []
        firsts = []
        for _, word_tokens in written:
            if tokens and self._between is not None:
                tokens.append(self._between)
            firsts.append(len(tokens))
            tokens += word_tokens
        if not tokens or pcm.size < 2 * self._hop:
            return None
        emissions = self.emissions(pcm)
        try:
            spans, on_path = viterbi(emissions, tokens, self._blank)
        except ValueError:
            return None
        frame_ms = 1000 * self._hop / audio.SAMPLE_RATE
        words = []
        for (word, word_tokens), first in zip(written, firsts, strict=True):
            last = first + len(word_tokens) - 1
            start, end = spans[first, 0], spans[last, 1]
            probability = float(np.exp(on_path[start:end]).mean())
            words.append(Word(round(start * frame_ms), round(end * frame_ms), word, probability))
        return Aligned(words, _worst_mean(on_path[spans[0, 0] : spans[-1, 1]]))

    def _tokens(self, word: str) -> list[int]:
        """A word's letters and digits as the model writes them, in whichever case."""
        tokens = []
        for character in word:
            forms = (character, character.lower(), character.upper())
            known = next((self._ids[form] for form in forms if form in self._ids), None)
            if known is not None:
                tokens.append(known)
            elif character.isalnum():
                tokens.append(ANYTHING)
        return tokens

    def emissions(self, pcm: audio.Pcm) -> Array:
        """Log-probabilities float32 [frames, vocabulary] of int16 PCM [samples] at 16 kHz."""
        import torch

        window = round(WINDOW_SECONDS * audio.SAMPLE_RATE) // self._hop
        context = round(CONTEXT_SECONDS * audio.SAMPLE_RATE) // self._hop
        total = max(1, pcm.size // self._hop)
        pieces = []
        for start in range(0, total, window):
            begin = max(0, start - context)
            end = min(total, start + window + context)
            # The last frame needs more samples than a hop: those of its receptive field.
            samples = pcm[begin * self._hop : (end + 1) * self._hop].astype(np.float32) / 32768.0
            inputs = self._features(
                samples, sampling_rate=audio.SAMPLE_RATE, return_tensors="pt"
            ).input_values.to(self._device)
            with torch.inference_mode():
                logits = self._model(inputs).logits[0].float().log_softmax(dim=-1).cpu().numpy()
            pieces.append(logits[start - begin : min(start + window, total) - begin])
        return np.concatenate(pieces)


def _worst_mean(log_probs: Array) -> float:
    """The lowest mean of `LOGPROB_FRAMES` neighbours, of all where there are fewer."""
    width = min(LOGPROB_FRAMES, len(log_probs))
    sums = np.cumsum([0.0, *log_probs])
    return float((sums[width:] - sums[:-width]).min() / width)


def align_subtitles(
    workspace: Workspace, catalogue: Catalogue, origin: str, aligner: Aligner
) -> engine.Counts:
    """Time the words of the subtitles that a Whisper has been set against, in its place.

    The words' times and the scores of the alignment, which stand with that model's transcript, are
    the aligner's afterwards. It listens `MAX_SHIFT_MS` beyond a segment's bounds. One commit for
    each segment.

    Args:
        origin: the Whisper, as transcripts name it.

    Raises:
        UserError: another process is labelling.
    """
    with workspace.lock("transcripts"):
        waiting = _unaligned(catalogue, origin)

        def work(item: _Waiting) -> Aligned | None:
            with catalogue.session() as session:
                segment = session.get(Segment, item.segment_id)
                if segment is None:
                    raise ItemError(f"{item}: removed in the meantime")
                text = session.get_one(Transcript, item.subtitle_id).text
                path = workspace.path(segment.recording.media_path)
                begin = max(0, segment.start_ms - MAX_SHIFT_MS)
                end = segment.end_ms + MAX_SHIFT_MS
            aligned = aligner(audio.read_span(path, begin, end), text)
            if aligned is None:
                return None
            shifted = [
                word._replace(start_ms=begin + word.start_ms, end_ms=begin + word.end_ms)
                for word in aligned.words
            ]
            return replace(aligned, words=shifted)

        def save(item: _Waiting, aligned: Aligned | None) -> None:
            scores = {LOGPROB: aligned.logprob if aligned else WORST_LOGPROB}
            with catalogue.session() as session:
                segment = session.get(Segment, item.segment_id)
                if segment is None:
                    return  # removed in the meantime
                if aligned is not None:
                    words = aligned.words
                    session.get_one(Transcript, item.subtitle_id).words = [
                        [w.start_ms, w.end_ms, w.text, round(w.probability, 3)] for w in words
                    ]
                    scores |= {
                        "align_prob_median": float(np.median([w.probability for w in words])),
                        "align_start_shift": (words[0].start_ms - segment.start_ms) / 1000,
                        "align_end_shift": (words[-1].end_ms - segment.end_ms) / 1000,
                    }
                for name, value in scores.items():
                    session.merge(
                        Score(transcript_id=item.pseudo_id, name=name, value=round(value, 4))
                    )

        return engine.run(
            waiting, work, save, catalogue.failure_noter("align"), desc="align", unit="segment"
        )


class _Waiting(NamedTuple):
    segment_id: str
    subtitle_id: int
    pseudo_id: int

    def __str__(self) -> str:
        return self.segment_id


def _unaligned(catalogue: Catalogue, origin: str) -> list[_Waiting]:
    """The segments whose subtitle this model has been set against, but no aligner since."""
    # Lists made once: SQLite would answer EXISTS by a walk for each transcript.
    done = select(Score.transcript_id).filter_by(name=LOGPROB)
    heard = (
        select(Transcript.segment_id, Transcript.id)
        .join(Transcript.segment)
        .filter(
            Transcript.kind == "pseudo", Transcript.origin == origin, Transcript.id.not_in(done)
        )
    )
    given = (
        select(Transcript.segment_id, Transcript.id)
        .filter(Transcript.kind == "subtitle", Transcript.text != "")
        .order_by(Transcript.id)
    )
    with catalogue.session() as session:
        subtitles = dict(session.execute(given).tuples().all())
        return [
            _Waiting(segment_id, subtitles[segment_id], pseudo_id)
            for segment_id, pseudo_id in session.execute(heard.order_by(Transcript.id)).tuples()
            if segment_id in subtitles
        ]
