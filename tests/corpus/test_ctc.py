"""Words timed by a CTC model: the best path on made-up emissions, the plumbing with a random model.

A random model knows no speech, so what it says is nothing; what is shown with it is that any
wav2vec2 folder is read, that long audio goes through in windows, and what is stored.
"""

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from corpus.add import add
from corpus.audio import SAMPLE_RATE
from corpus.catalogue import Catalogue, Segment, Transcript
from corpus.ctc import ANYTHING, LOGPROB, Aligner, viterbi
from corpus.errors import UserError
from corpus.segment import segment_recordings
from corpus.workspace import Workspace

from .conftest import MODEL, SENTENCES, Corpus, spoken, write_speech

BLANK = 0
LETTERS = "ETAONIHSRDLU'"


def emissions(
    tokens: list[int], at: list[int], frames: int, vocabulary: int, noise: float, seed: int
) -> np.ndarray:
    """Log-probabilities [frames, vocabulary] in which each token is probable at one frame."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=noise, size=(frames, vocabulary))
    logits[:, BLANK] += 4
    for token, frame in zip(tokens, at, strict=True):
        logits[frame, BLANK] -= 4
        logits[frame, token] += 6
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def planted(
    rng: np.random.Generator, n: int, frames: int, vocabulary: int
) -> tuple[list[int], list[int]]:
    """Tokens, and frames that leave room for a blank between any two."""
    tokens = rng.integers(1, vocabulary, n).tolist()
    at = (np.sort(rng.choice(frames // 2 - 2, n, replace=False)) * 2 + 2).tolist()
    return tokens, at


class TestViterbi:
    @given(st.integers(0, 10_000), st.integers(1, 40))
    def test_it_finds_the_frames_where_the_tokens_are(self, seed: int, n: int) -> None:
        tokens, at = planted(np.random.default_rng(seed), n, 200, 12)
        spans, on_path = viterbi(emissions(tokens, at, 200, 12, 0.3, seed), tokens, BLANK)
        assert spans[:, 0].tolist() == at
        assert (on_path <= 0).all()

    @given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 60))
    def test_spans_follow_each_other_whatever_is_heard(self, seed: int, n: int, spare: int) -> None:
        rng = np.random.default_rng(seed)
        tokens = rng.choice([ANYTHING, 1, 2, 3], n).tolist()
        logits = rng.normal(scale=3, size=(2 * n + spare, 4))
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        spans, _ = viterbi(log_probs, tokens, BLANK)
        assert (spans[:, 0] < spans[:, 1]).all()
        assert all(a[1] <= b[0] for a, b in pairwise(spans.tolist()))
        for (before, after), same in zip(
            pairwise(spans.tolist()), (a == b for a, b in pairwise(tokens)), strict=True
        ):
            assert not same or after[0] > before[1]  # a blank between equals
        assert spans[-1, 1] <= len(log_probs)

    def test_what_is_said_around_the_text_is_left_around_it(self) -> None:
        said = [1, 2, 3, 4, 5, 6, 7, 8]
        at = [10, 20, 30, 40, 50, 60, 70, 80]
        log_probs = emissions(said, at, 100, 12, 0.1, 0)
        spans, _ = viterbi(log_probs, said[2:6], BLANK)
        assert spans[:, 0].tolist() == at[2:6]

    def test_a_wildcard_takes_what_no_letter_stands_for(self) -> None:
        log_probs = emissions([1, 9, 2], [10, 20, 30], 50, 12, 0.1, 0)
        spans, _ = viterbi(log_probs, [1, ANYTHING, 2], BLANK)
        assert spans[:, 0].tolist() == [10, 20, 30]

    def test_a_text_that_does_not_fit_is_refused(self) -> None:
        log_probs = np.log(np.full((5, 4), 0.25))
        with pytest.raises(ValueError, match="6 tokens do not fit into 5 frames"):
            viterbi(log_probs, [1, 2, 3, 1, 2, 3], BLANK)
        with pytest.raises(ValueError, match="do not fit"):  # equal ones need a blank between
            viterbi(log_probs, [1, 1, 1, 1], BLANK)

    def test_thirty_seconds_take_a_fraction_of_a_second(self) -> None:
        tokens, at = planted(np.random.default_rng(0), 350, 1500, 32)
        log_probs = emissions(tokens, at, 1500, 32, 0.3, 0).astype(np.float32)
        began = time.process_time()
        spans, _ = viterbi(log_probs, tokens, BLANK)
        assert time.process_time() - began < 0.3
        assert spans[:, 0].tolist() == at


@pytest.fixture(scope="session")
def ctc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec2-CTC model with random weights, as Hugging Face stores one."""
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    folder = tmp_path_factory.mktemp("ctc") / "wav2vec2"
    folder.mkdir()
    words = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    torch.manual_seed(0)
    Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
    ).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


class TestAligner:
    def test_every_word_gets_its_time_inside_the_audio_in_order(self, ctc_folder: Path) -> None:
        pcm, _ = spoken(*SENTENCES)
        text = "Call room 5 – it’s “Número” 17; mother!"
        aligned = Aligner(ctc_folder, device="cpu")(pcm, text)
        assert aligned is not None
        assert [word.text for word in aligned.words] == [w for w in text.split() if w != "–"]
        assert all(w.start_ms < w.end_ms and 0 < w.probability <= 1 for w in aligned.words)
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(aligned.words))
        assert aligned.words[-1].end_ms <= len(pcm) // 16
        assert aligned.logprob < 0

    def test_long_audio_goes_through_in_windows_with_a_frame_each_20_ms(
        self, ctc_folder: Path
    ) -> None:
        pcm = np.random.default_rng(0).normal(scale=3000, size=70 * SAMPLE_RATE).astype(np.int16)
        found = Aligner(ctc_folder, device="cpu").emissions(pcm)
        assert abs(len(found) - 70 * 50) <= 1
        assert np.exp(found).sum(axis=1) == pytest.approx(1.0, abs=1e-4)

    def test_a_text_that_cannot_be_in_the_audio_has_no_times(self, ctc_folder: Path) -> None:
        aligner = Aligner(ctc_folder, device="cpu")
        assert aligner(np.zeros(1600, np.int16), "a text of far too many letters") is None
        assert aligner(np.zeros(16_000, np.int16), "– ?!") is None
        assert aligner(np.zeros(0, np.int16), "tea") is None

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no CTC model; give a folder"):
            Aligner(tmp_path)


@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, absent")
def test_the_command_times_subtitles_with_the_aligner_once(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, ctc_folder: Path, corpus: Corpus
) -> None:
    add(workspace, catalogue, [write_speech(tmp_path / "a.wav", *SENTENCES, subtitles=True)],
        licence="own")  # fmt: skip
    segment_recordings(workspace, catalogue, target_seconds=27)
    arguments = ["label", "--model", MODEL, "--workspace", workspace.root, "--device", "cpu"]
    assert corpus(*arguments).code == 0

    def stored() -> tuple[list[list[object]], dict[str, float]]:
        with catalogue.session() as session:
            transcripts = session.scalars(select(Transcript)).all()
            (subtitle,) = (t for t in transcripts if t.kind == "subtitle")
            (pseudo,) = (t for t in transcripts if t.kind == "pseudo")
            return subtitle.words or [], {score.name: score.value for score in pseudo.scores}

    before, scores = stored()
    assert LOGPROB not in scores
    assert corpus(*arguments, "--aligner", ctc_folder).code == 0
    after, scores = stored()
    assert [word[2] for word in after] == " ".join(SENTENCES).split()
    assert after != before
    assert scores[LOGPROB] < 0
    with catalogue.session() as session:
        segment = session.scalars(select(Segment)).one()
    assert scores["align_start_shift"] == (after[0][0] - segment.start_ms) / 1000
    again = corpus(*arguments, "--aligner", ctc_folder)
    assert again.code == 0
    assert stored() == (after, scores)
    wrong = corpus(*arguments, "--aligner", tmp_path)
    assert wrong.code == 1
    assert "no CTC model" in wrong.err
