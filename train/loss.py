"""The loss: a sum over the labels that count, whose logits are never all there at once.

A sum, so that the mean is taken once over the global batch: then neither the loss nor its gradient
depends on how that batch was split. (The model's own loss is a mean per micro-batch, which a
trainer can only rescale wrongly: huggingface/transformers#46068.)

Only positions with a label are projected onto the vocabulary, `CHUNK_ROWS` of them at a time, and
the gradient is made while a chunk's logits are at hand. At 448 tokens the logits would otherwise be
the largest tensors of a small model by far.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.depth import StochasticDepth
from train.targets import IGNORED

CHUNK_ROWS = 256
"""50 MB of fp32 logits for Whisper's vocabulary of 51,865."""


class WhisperLoss(nn.Module):
    """The summed cross-entropy of a micro-batch.

    Args:
        model: a `WhisperForConditionalGeneration`.
        sources: number of sources, by which the sums are told apart.
        label_smoothing: part of each label that is spread evenly over the vocabulary, 0 to 1.
        stochastic_depth: probability of skipping the deepest layer, see `StochasticDepth`.
    """

    def __init__(
        self,
        model: Any,
        *,
        sources: int = 1,
        label_smoothing: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.whisper = model
        self.sources = sources
        self.label_smoothing = label_smoothing
        self.depth = StochasticDepth(model, stochastic_depth) if stochastic_depth else None

    def forward(
        self,
        features: Tensor,
        decoder_input_ids: Tensor,
        labels: Tensor,
        sources: Tensor,
        kept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Sum over all labels, with gradient, and the sums over each source's, without.

        Args:
            features: float [B, mels, 3000].
            decoder_input_ids: int64 [B, L].
            labels: int64 [B, L], -100 where there is no loss.
            sources: int64 [B, L], number of each label's source.
            kept: bool [B, layers], False where stochastic depth skips a layer.

        Returns:
            scalar and float32 [sources], in nats.
        """
        if self.depth is not None:
            self.depth.kept = kept
        audio = self.whisper.model.encoder(features).last_hidden_state
        # By default transformers repeats these for each target. Their embeddings' gradients would
        # then be added up by several threads, in an order that differs from run to run.
        positions = torch.arange(decoder_input_ids.shape[1], device=decoder_input_ids.device)
        hidden = self.whisper.model.decoder(
            input_ids=decoder_input_ids,
            position_ids=positions[None],
            encoder_hidden_states=audio,
            use_cache=False,
        ).last_hidden_state
        counts = labels != IGNORED
        total, rows = sum_of_cross_entropy(
            hidden[counts], self.whisper.proj_out.weight, labels[counts], self.label_smoothing
        )
        by_source = torch.zeros(self.sources, device=rows.device)
        return total, by_source.index_add(0, sources[counts], rows)


def sum_of_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")` in chunks.

    Args:
        hidden: float [N, width].
        weight: float [vocabulary, width].
        labels: int64 [N], none of them ignored.

    Returns:
        scalar with gradient, and its N summands without; both float32.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        precision = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(precision), weight.to(precision)
    with torch.autocast(device, enabled=False):
        total, rows = _ChunkedCrossEntropy.apply(hidden, weight, labels, label_smoothing)
    return total, rows


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_gradient = (
            torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        )
        rows = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(labels), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            logits = (hidden[chunk] @ weight.T).float()
            rows[chunk] = functional.cross_entropy(
                logits, labels[chunk], reduction="none", label_smoothing=label_smoothing
            )
            gradient = logits.softmax(dim=1).sub_(label_smoothing / logits.shape[1])
            gradient.scatter_add_(
                1, labels[chunk, None], gradient.new_full((len(gradient), 1), label_smoothing - 1)
            )
            gradient = gradient.to(hidden.dtype)
            if hidden_gradient is not None:
                hidden_gradient[chunk] = gradient @ weight
            if weight_gradient is not None:
                weight_gradient += gradient.T @ hidden[chunk]
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(weight.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(rows)
        return rows.sum(), rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        scale = gradients[0]
        hidden_gradient, weight_gradient = (
            None if saved is None else saved * scale.to(saved.dtype) for saved in ctx.saved_tensors
        )
        return hidden_gradient, weight_gradient, None, None
