"""What makes training harder does so as often and as much as its papers say."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train import augment
from train import model as models
from train.bpe_dropout import BpeDropout
from train.depth import StochasticDepth, draw_kept, skip_rates

SAMPLE_RATE = 16_000


# --- SpecAugment --------------------------------------------------------------------------------


@given(
    frames=st.integers(0, 3000),
    mels=st.sampled_from([80, 128]),
    chance=st.randoms(use_true_random=False),
)
def test_masks_lie_over_sound_and_are_no_larger_than_the_policy(
    frames: int, mels: int, chance: random.Random
) -> None:
    masks = augment.draw_masks(chance, frames, mels)
    assert 0 <= masks.frame <= masks.frame_stop <= frames
    assert masks.frame_stop - masks.frame <= 100
    assert 0 <= masks.mel <= masks.mel_stop <= mels
    assert masks.mel_stop - masks.mel <= {80: 27, 128: 43}[mels]


def test_on_average_half_of_the_largest_mask_is_blanked() -> None:
    drawn = [augment.draw_masks(random.Random(n), 3000, 80) for n in range(4000)]
    frames = np.array([mask.frame_stop - mask.frame for mask in drawn])
    mels = np.array([mask.mel_stop - mask.mel for mask in drawn])
    assert frames.mean() == pytest.approx(50, abs=1.5)
    assert mels.mean() == pytest.approx(13.5, abs=0.5)
    # Blanked of the whole picture: a band of time, a band of pitch, less where they cross.
    time, pitch = frames.mean() / 3000, mels.mean() / 80
    features = torch.ones(len(drawn), 80, 300)
    scaled = torch.tensor([(m.frame // 10, m.frame_stop // 10, m.mel, m.mel_stop) for m in drawn])
    blanked = (augment.blank(features, scaled) == 0).float().mean().item()
    assert blanked == pytest.approx(time + pitch - time * pitch, abs=0.005)
    assert (features == 1).all()  # not in place


def test_each_window_has_its_own_mask() -> None:
    features = torch.ones(2, 80, 3000)
    blanked = augment.blank(features, torch.tensor([[5, 9, 0, 0], [0, 0, 79, 80]]))
    assert (blanked[0] == 0).sum() == 4 * 80
    assert (blanked[1] == 0).sum() == 3000
    assert (blanked[0, :, 5:9] == 0).all()
    assert (blanked[1, 79] == 0).all()


# --- stochastic depth ---------------------------------------------------------------------------


def test_deeper_layers_are_skipped_more_often() -> None:
    rates = skip_rates([4, 2], 0.2)
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.1, 0.2])
    kept = np.mean([draw_kept(random.Random(n), rates) for n in range(20_000)], axis=0)
    assert kept == pytest.approx(1 - np.array(rates), abs=0.01)


def run_model(model: Any, windows: int) -> torch.Tensor:
    torch.manual_seed(0)
    features = torch.randn(windows, 80, 3000)
    tokens = torch.arange(8).repeat(windows, 1)
    with torch.no_grad():
        audio = model.model.encoder(features).last_hidden_state
        return model.model.decoder(
            input_ids=tokens, encoder_hidden_states=audio, use_cache=False
        ).last_hidden_state


def test_a_window_skips_its_layers_and_no_other_windows(tiny_model: Path) -> None:
    model = models.load(str(tiny_model)).model.train()
    plain = run_model(model, 3)
    rate = 0.5
    depth = StochasticDepth(model, rate)
    all_kept = torch.ones(3, 4, dtype=torch.bool)

    # The second window skips both encoder layers, which is what a model without them computes.
    depth.kept = all_kept.clone()
    depth.kept[1, :2] = False
    skipping = run_model(model, 3)
    depth.kept = all_kept
    keeping = run_model(model, 3)
    assert torch.allclose(skipping[0], keeping[0], atol=1e-6)
    assert torch.allclose(skipping[2], keeping[2], atol=1e-6)
    layers, model.model.encoder.layers = model.model.encoder.layers, torch.nn.ModuleList()
    without = run_model(model, 3)
    model.model.encoder.layers = layers
    assert torch.allclose(skipping[1], without[1], atol=1e-5)
    assert not torch.allclose(keeping, plain, atol=1e-3)  # what is kept counts for more

    model.eval()
    assert torch.equal(run_model(model, 3), plain)


def test_on_average_a_layer_adds_what_it_adds_without(tiny_model: Path) -> None:
    model = models.load(str(tiny_model)).model.train()
    layer = model.model.encoder.layers[1]
    hidden = torch.randn(1, 10, 64).repeat(4000, 1, 1)
    with torch.no_grad():
        plain = layer(hidden[:1], None)
        depth = StochasticDepth(model, 0.3)
        depth.kept = torch.tensor([draw_kept(random.Random(n), [0, 0.3]) for n in range(4000)])
        mean = layer(hidden, None).mean(dim=0)
    assert torch.allclose(mean, plain[0], atol=0.1 * (plain[0] - hidden[0]).abs().max().item())
    error = (mean - plain[0]).norm() / (plain[0] - hidden[0]).norm()
    assert error < 0.03


# --- BPE dropout --------------------------------------------------------------------------------

TEXTS = st.lists(
    st.sampled_from(["one", "seven", "tři", "नमस्ते", "сайн байна уу", "你好", "it's", "42"]),
    max_size=8,
).map(" ".join)


@settings(deadline=None)
@given(text=TEXTS, rate=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_smaller_tokens_spell_the_same_text(
    tokenizer: Any, text: str, rate: float, seed: int
) -> None:
    dropout = BpeDropout(tokenizer, rate)
    ids = dropout.encoder(random.Random(seed))(f" {text}")
    assert tokenizer.decode(ids) == f" {text}"
    assert ids == dropout.encoder(random.Random(seed))(f" {text}")
    assert len(ids) >= len(tokenizer.encode(f" {text}", add_special_tokens=False))


def test_without_dropout_the_tokens_are_the_tokenizers_own(tokenizer: Any) -> None:
    encode = BpeDropout(tokenizer, 0.0).encoder(random.Random(0))
    for text in (" one two seven", " नमस्ते दुनिया", "你好", " it's 42, isn't it?", " сайн байна"):
        assert encode(text) == tokenizer.encode(text, add_special_tokens=False)


def test_merges_are_left_out_at_the_rate(tokenizer: Any) -> None:
    pair = "ne"  # one merge
    assert len(tokenizer.encode(pair, add_special_tokens=False)) == 1
    encode = BpeDropout(tokenizer, 0.1).encoder(random.Random(0))
    lengths = Counter(len(encode(pair)) for _ in range(10_000))
    assert lengths[2] / 10_000 == pytest.approx(0.1, abs=0.01)


def test_the_tokenizer_is_left_as_it_was(tokenizer: Any) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    BpeDropout(tokenizer, 0.9).encoder(random.Random(0))(" one two three")
    assert tokenizer.backend_tokenizer.to_str() == before


# --- sound --------------------------------------------------------------------------------------


def clicks(*seconds: float) -> np.ndarray:
    """10 s of silence with a click of 2 ms at each of some times."""
    pcm = np.zeros(10 * SAMPLE_RATE, np.int16)
    for second in seconds:
        start = round(second * SAMPLE_RATE)
        pcm[start : start + 32] = 12_000
    return pcm


def peak(pcm: np.ndarray, around: float) -> float:
    """Where it is loudest within half a second of a time, in seconds."""
    start = round((around - 0.5) * SAMPLE_RATE)
    return (
        start + int(np.abs(pcm[start : start + SAMPLE_RATE].astype(int)).argmax())
    ) / SAMPLE_RATE


@pytest.mark.parametrize("speed", [0.9, 0.97, 1.0, 1.04, 1.1])
def test_speed_moves_sound_by_just_that(speed: float) -> None:
    samples = round(160_000 / speed)
    played = augment.change_speed(clicks(1.0, 5.0, 9.0), speed, samples)
    assert played.size == samples
    for second in (1.0, 5.0, 9.0):
        assert peak(played, second / speed) == pytest.approx(second / speed, abs=0.004)


def test_disturbances_leave_sound_where_it_is() -> None:
    pcm = clicks(1.0, 5.0, 9.0)
    for seed in range(10):
        heard = augment.disturb(pcm, random.Random(seed), noise=0.9, gain=0.9, phone=0.9)
        assert heard.size == pcm.size
        for second in (1.0, 5.0, 9.0):
            assert peak(heard, second) == pytest.approx(second, abs=0.004)


def test_disturbances_come_as_often_as_they_are_asked_for() -> None:
    pcm = clicks(0.5)[:SAMPLE_RATE]
    changed = sum(
        not np.array_equal(augment.disturb(pcm, random.Random(n), noise=0.25, gain=0, phone=0), pcm)
        for n in range(800)
    )
    assert changed / 800 == pytest.approx(0.25, abs=0.05)


def test_noise_is_as_loud_as_drawn_and_silence_stays_silence() -> None:
    tone = (8000 * np.sin(np.arange(80_000) * 0.3)).astype(np.int16)
    ratios = []
    for seed in range(60):
        noise = augment.add_noise(tone, random.Random(seed)).astype(float) - tone
        ratios.append(20 * np.log10(np.std(tone) / np.std(noise)))
    assert 9.5 < min(ratios) < 14
    assert 36 < max(ratios) < 40.5
    silence = np.zeros(1000, np.int16)
    assert not augment.add_noise(silence, random.Random(0)).any()


def test_gain_never_clips() -> None:
    loud = (30_000 * np.sin(np.arange(16_000) * 0.3)).astype(np.int16)
    for seed in range(30):
        changed = augment.change_gain(loud, random.Random(seed)).astype(float)
        factor = np.dot(changed, loud) / np.dot(loud.astype(float), loud)
        assert np.abs(changed - factor * loud).max() < 1.0


def test_a_telephone_line_ends_at_4_khz() -> None:
    time = np.arange(SAMPLE_RATE)
    low, high = (np.sin(2 * np.pi * hertz * time / SAMPLE_RATE) * 8000 for hertz in (1000, 6000))
    heard = augment.telephone(np.round(low + high).astype(np.int16))
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum[1000] == pytest.approx(8000 * SAMPLE_RATE / 2, rel=0.05)
    assert spectrum[6000] < 0.01 * spectrum[1000]
