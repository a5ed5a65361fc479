"""The loss is transformers' own where that is right, and does not depend on any split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from train import model as models
from train.config import FitConfig
from train.data import open_data
from train.engine import Inputs
from train.loss import CHUNK_ROWS, WhisperLoss, sum_of_cross_entropy
from train.reader import Batch


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, CHUNK_ROWS, 2 * CHUNK_ROWS + 77])
def test_chunks_sum_to_the_whole_and_so_do_their_gradients(rows: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 900, (rows,), generator=generator)

    def weights() -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [
            torch.randn(size, 24, generator=generator, requires_grad=True) for size in (rows, 900)
        ]

    hidden, weight = weights()
    expected = functional.cross_entropy(
        hidden @ weight.T, labels, reduction="sum", label_smoothing=smoothing
    )
    (expected * 0.25).backward()
    ours, our_weight = weights()
    total, summands = sum_of_cross_entropy(ours, our_weight, labels, smoothing)
    (total * 0.25).backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert summands.sum().item() == pytest.approx(expected.item(), rel=1e-6)
    assert not summands.requires_grad
    torch.testing.assert_close(ours.grad, hidden.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(our_weight.grad, weight.grad, rtol=1e-4, atol=1e-5)


def test_under_autocast_the_vocabulary_is_projected_in_its_precision() -> None:
    hidden = torch.randn(40, 24, requires_grad=True)
    weight = torch.randn(900, 24, requires_grad=True)
    labels = torch.randint(0, 900, (40,))
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = sum_of_cross_entropy(hidden, weight, labels)
    total.backward()
    exact = functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(exact.item(), rel=1e-2)
    assert total.item() != pytest.approx(exact.item(), rel=1e-6)


def test_a_frozen_vocabulary_gets_no_gradient() -> None:
    hidden = torch.randn(40, 24, requires_grad=True)
    weight = torch.randn(900, 24)
    total, _ = sum_of_cross_entropy(hidden, weight, torch.randint(0, 900, (40,)))
    total.backward()
    assert hidden.grad is not None
    assert weight.grad is None


def gather_batches(
    dataset: Path, whisper: models.Whisper, micro_batches: list[int], **options: Any
) -> Iterator[Batch]:
    """The same eight windows in micro-batches of the given sizes, each padded for itself."""
    data = open_data(FitConfig((str(dataset),), "m", "o", **options), whisper)
    (requests,) = data.stream.batches(0, 1, batch_size=8, micro_batch=8, rank=0, world=1)
    samples = [data.reader[request._replace(length=0)] for request in requests]
    for size in micro_batches:
        yield data.reader.collate(samples[:size])
        samples = samples[size:]


def to_inputs(whisper: models.Whisper, batch: Batch) -> Inputs:
    features = models.LogMel(whisper.feature_extractor)(batch.pcm)
    return features, batch.decoder_input_ids, batch.labels, batch.sources, batch.kept


REGULARISED: dict[str, Any] = {"stochastic_depth": 0.4, "bpe_dropout": 0.2, "label_smoothing": 0.1}


@pytest.mark.parametrize("options", [{}, REGULARISED], ids=["plain", "regularised"])
def test_loss_and_gradient_are_those_of_the_whole_batch_however_it_is_split(
    dataset: Path, tiny_model: Path, options: dict[str, Any]
) -> None:
    def run(micro_batches: list[int]) -> tuple[float, list[float], list[Tensor]]:
        whisper = models.load(str(tiny_model))
        whisper.model.train()
        loss = WhisperLoss(
            whisper.model,
            sources=3,
            label_smoothing=options.get("label_smoothing", 0.0),
            stochastic_depth=options.get("stochastic_depth", 0.0),
        )
        batches = list(gather_batches(dataset, whisper, micro_batches, **options))
        tokens = sum(batch.tokens for batch in batches)
        total, by_source = 0.0, torch.zeros(3)
        for batch in batches:
            summed, sources = loss(*to_inputs(whisper, batch))
            (summed / tokens).backward()
            total += summed.item()
            by_source += sources
        gradients = [p.grad for p in whisper.model.parameters() if p.grad is not None]
        return total / tokens, by_source.tolist(), gradients

    loss, by_source, gradients = run([8])
    assert by_source[0] > 0
    for micro_batches in ([2, 2, 2, 2], [1] * 8, [5, 1, 2]):
        other_loss, other_sources, other_gradients = run(micro_batches)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_sources == pytest.approx(by_source, rel=1e-5)
        difference = sum(
            (a - b).double().square().sum() for a, b in zip(gradients, other_gradients, strict=True)
        )
        norm = sum(gradient.double().square().sum() for gradient in gradients)
        assert (difference / norm).sqrt().item() < 1e-5


def test_it_is_transformers_loss_where_one_batch_is_all(dataset: Path, tiny_model: Path) -> None:
    whisper = models.load(str(tiny_model))
    (batch,) = gather_batches(dataset, whisper, [8])
    inputs = to_inputs(whisper, batch)
    summed, by_source = WhisperLoss(whisper.model, sources=3)(*inputs)
    expected = whisper.model(
        input_features=inputs[0],
        decoder_input_ids=batch.decoder_input_ids,
        labels=batch.labels,
        use_cache=False,
    ).loss
    assert (summed / batch.tokens).item() == pytest.approx(expected.item(), rel=1e-6)
    assert by_source.sum().item() == pytest.approx(summed.item(), rel=1e-6)


@pytest.fixture
def several_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("several_threads")
def test_the_gradient_is_the_same_to_the_last_bit_each_time(tiny_model: Path) -> None:
    """With targets so long that torch divides sums of embeddings among its threads."""
    whisper = models.load(str(tiny_model))
    loss = WhisperLoss(whisper.model)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 900, (8, 448), generator=generator)
    features = torch.randn(8, 80, 3000, generator=generator)
    inputs = (features, tokens, tokens.roll(-1, 1), torch.zeros_like(tokens), torch.ones(8, 4) > 0)
    made = []
    for _ in range(3):
        whisper.model.zero_grad()
        loss(*inputs)[0].backward()
        made.append([p.grad.clone() for p in whisper.model.parameters() if p.grad is not None])
    for other in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], other, strict=True))
