"""ONNX, as transformers.js and optimum's `ORTModelForSpeechSeq2Seq` load it from the Hub.

`onnx/encoder_model.onnx` hears: log-mel to states. `onnx/decoder_model_merged.onnx` writes: it
holds the decoder twice around one set of weights, and its input `use_cache_branch` says which is
meant. Without the cache it reads a prompt and the states, and gives the keys and values of both
attentions (`present.*`); with it, it reads what was written since and these (`past_key_values.*`),
and gives only those of its own tokens anew: the sound does not change.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from train import model as models
from train.export import card

ENCODER, DECODER = "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"

OPSET = 18
"""The oldest that torch writes: runtimes in browsers are behind."""

LARGEST_FILE = 2_000_000_000
"""Bytes of weights in a file, which protobuf ends at 2 GiB; more of them lie in one beside it."""

TOLERANCE = 1e-2
"""How far logits, which are tens, may be from the model's own. Sums of 32 bits in another order
differ by thousandths; a wrong cache, mask or position by ones."""

CHECKED_TOKENS = 16


def write(whisper: models.Whisper, folder: Path, run: Path, name: str) -> None:
    """Write the folder, load it with onnxruntime and see that it hears what the model hears.

    Args:
        run: the folder that the model came from, for the card.
        name: of the model, for the card.

    Raises:
        UserError: the optional packages are missing.
        ValueError: what was written computes something else.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'--to onnx needs {error.name}; `pip install -c constraints.txt -e ".[onnx]"`'
        ) from error
    models.save(whisper, folder)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    for file, text in card.write(run, name, library="transformers.js").items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / ENCODER).parent.mkdir()
    model = whisper.model.eval()
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the others choose their way by sizes that vary here
    _save(_trace_encoder(model), folder / ENCODER)
    _save(_trace_decoder(model), folder / DECODER)
    model.set_attn_implementation(before)
    check(whisper, folder)


# --- from torch to graphs -------------------------------------------------------------------------


class Encoder(nn.Module):
    """Log-mel [batch, mels, frames] to states [batch, frames / 2, width]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.model.encoder

    def forward(self, input_features: Tensor) -> Tensor:
        return self.encoder(input_features).last_hidden_state


class Decoder(nn.Module):
    """What the two decoders share, under the same names: their weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.model.decoder
        self.proj_out = model.proj_out

    def run(self, tokens: Tensor, states: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits [batch, tokens, vocabulary], and the cache with these tokens in it."""
        found = self.decoder(
            input_ids=tokens, encoder_hidden_states=states, past_key_values=cache, use_cache=True
        )
        return self.proj_out(found.last_hidden_state), found.past_key_values


class Begin(Decoder):
    """Without a cache: logits, and of each layer four: keys and values of tokens and of sound."""

    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, ...]:
        logits, cache = self.run(input_ids, encoder_hidden_states, None)
        return logits, *(
            part
            for tokens, sound in zip(
                cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True
            )
            for part in (tokens.keys, tokens.values, sound.keys, sound.values)
        )


class GoOn(Decoder):
    """With a cache of four for each layer: logits, and of each layer keys and values of tokens."""

    def forward(self, input_ids: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        from transformers import DynamicCache, EncoderDecoderCache

        layers = range(0, len(past), 4)
        cache = EncoderDecoderCache(
            DynamicCache([(past[at], past[at + 1]) for at in layers]),
            DynamicCache([(past[at + 2], past[at + 3]) for at in layers]),
        )
        # The states are not looked at, since the cache has what is made of them; but without any
        # the decoder would not attend to the sound.
        logits, cache = self.run(input_ids, past[2], cache)
        tokens = cache.self_attention_cache.layers
        return logits, *(part for layer in tokens for part in (layer.keys, layer.values))


def _trace_encoder(model: Any) -> Any:
    config = model.config
    log_mel = torch.zeros(2, config.num_mel_bins, 2 * config.max_source_positions)
    named = {0: "batch_size"}
    return _trace(Encoder(model), [log_mel], [named], ["input_features"], ["last_hidden_state"])


def _trace_decoder(model: Any) -> Any:
    config = model.config
    heads, size = config.decoder_attention_heads, config.d_model // config.decoder_attention_heads
    parts = [
        f"{layer}.{kind}.{part}"
        for layer in range(config.decoder_layers)
        for kind in ("decoder", "encoder")
        for part in ("key", "value")
    ]
    presents = [f"present.{part}" for part in parts]
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    states = torch.zeros(2, config.max_source_positions, config.d_model)
    written = {0: "batch_size", 1: "decoder_sequence_length"}
    begin = _trace(
        Begin(model),
        [tokens, states],
        [written, {0: "batch_size"}],
        ["input_ids", "encoder_hidden_states"],
        ["logits", *presents],
    )
    sizes = {"decoder": 5, "encoder": config.max_source_positions}
    past = [torch.zeros(2, heads, sizes[part.split(".")[1]], size) for part in parts]
    sound = {0: "batch_size"}
    kinds = {"decoder": {**sound, 2: "past_decoder_sequence_length"}, "encoder": sound}
    go_on = _trace(
        GoOn(model),
        [tokens, past],
        [written, [kinds[part.split(".")[1]] for part in parts]],
        ["input_ids", *(f"past_key_values.{part}" for part in parts)],
        ["logits", *(name for name in presents if ".decoder." in name)],
    )
    return _merge(begin, go_on)


def _trace(
    module: nn.Module,
    examples: list[Any],
    axes: list[Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    """The graph of a module, an `onnx_ir.Model`. Axes with a name may have any size."""
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(examples),
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(axes),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of torchvision and of its own names."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _merge(begin: Any, go_on: Any) -> Any:
    """One graph of two: an `If` on `use_cache_branch`, and around it the weights of both, once."""
    import onnx_ir as ir

    outputs = [_outer(value) for value in begin.graph.outputs]
    inputs = {"use_cache_branch": ir.Value(
        name="use_cache_branch", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([1])
    )}  # fmt: skip
    weights: dict[Any, Any] = {}
    for graph in (begin.graph, go_on.graph):
        for value in list(graph.inputs):
            outer = inputs.setdefault(value.name, _outer(value))
            ir.convenience.replace_all_uses_with(value, outer)
        graph.inputs.clear()
        for value in list(graph.initializers.values()):
            array = value.const_value.numpy()
            key = (array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest())
            if key not in weights:
                weights[key] = _outer(value, name=f"weight.{len(weights)}")
                weights[key].const_value = value.const_value
            ir.convenience.replace_all_uses_with(value, weights[key])
        graph.initializers.clear()
        _add_missing(graph, outputs)
        for inner, value in zip(graph.outputs, outputs, strict=True):
            inner.name = f"branch.{value.name}"
    node = ir.Node(
        "",
        "If",
        [inputs["use_cache_branch"]],
        [ir.AttrGraph("then_branch", go_on.graph), ir.AttrGraph("else_branch", begin.graph)],
        outputs=outputs,
    )
    graph = ir.Graph(
        list(inputs.values()),
        outputs,
        nodes=[node],
        initializers=list(weights.values()),
        opset_imports=begin.graph.opset_imports,
        name="decoder",
    )
    return ir.Model(graph, ir_version=begin.ir_version, producer_name="whisper-harvest")


def _outer(value: Any, name: str | None = None) -> Any:
    """A value like one of a branch, for the graph around it; a cache there may have any length."""
    import onnx_ir as ir

    axes = list(value.shape)
    if value.name.startswith(("past_key_values.", "present.")):
        axes[2] = None
    return ir.Value(name=name or value.name, type=value.type, shape=ir.Shape(axes))


def _add_missing(graph: Any, outputs: Sequence[Any]) -> None:
    """Let a branch have the outputs of the other, too: those that it lacks are empty."""
    import onnx_ir as ir

    made = {value.name: value for value in graph.outputs}
    graph.outputs.clear()
    for value in outputs:
        if value.name not in made:
            _, heads, _, size = value.shape
            empty = ir.tensor(np.zeros((0, heads, 1, size), np.float32))
            node = ir.node("Constant", [], {"value": empty})
            graph.append(node)
            made[value.name] = node.outputs[0]
        graph.outputs.append(made[value.name])


def _save(model: Any, path: Path) -> None:
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    if size <= LARGEST_FILE:
        ir.save(model, path)
        return
    ir.save(model, path, external_data=f"{path.name}_data")
    # onnxruntime reads of it in the file, transformers.js, which has to fetch it, only here.
    config = path.parents[1] / "config.json"
    known = json.loads(config.read_text(encoding="utf-8"))
    told = known.setdefault("transformers.js_config", {})
    told.setdefault("use_external_data_format", {})[path.name] = 1
    config.write_text(json.dumps(known, indent=2), encoding="utf-8")


# --- with onnxruntime -----------------------------------------------------------------------------


def decode(
    folder: Path, log_mel: np.ndarray, prompt: Sequence[int], end: int, room: int
) -> tuple[list[int], np.ndarray]:
    """Let an exported model transcribe, greedily.

    Args:
        log_mel: float32 [1, mels, frames].
        prompt: tokens to begin with.
        end: the token that ends.
        room: how many tokens it may write.

    Returns:
        the tokens, and the logits that each was taken from: float32 [tokens, vocabulary].
    """
    from onnxruntime import InferenceSession

    def load(name: str) -> InferenceSession:
        return InferenceSession(folder / name, providers=["CPUExecutionProvider"])

    (states,) = load(ENCODER).run(None, {"input_features": log_mel})
    decoder = load(DECODER)
    names = [output.name for output in decoder.get_outputs()]
    cache = {
        put.name: np.zeros((1, put.shape[1], 0, put.shape[3]), np.float32)
        for put in decoder.get_inputs()
        if put.name.startswith("past_key_values.")
    }
    tokens: list[int] = []
    logits: list[np.ndarray] = []
    given = list(prompt)
    while len(tokens) < room and tokens[-1:] != [end]:
        begun = bool(tokens)
        made = decoder.run(
            None,
            {
                "input_ids": np.array([given]),
                "encoder_hidden_states": states,
                "use_cache_branch": np.array([begun]),
                **cache,
            },
        )
        for name, value in zip(names[1:], made[1:], strict=True):
            if not (begun and ".encoder." in name):  # the sound's stay as the first run made them
                cache[name.replace("present", "past_key_values")] = value
        logits.append(made[0][0, -1])
        tokens.append(int(logits[-1].argmax()))
        given = tokens[-1:]
    return tokens, np.stack(logits)


def check(whisper: models.Whisper, folder: Path) -> None:
    """See that an exported model transcribes a second of noise as the model itself does.

    Raises:
        ValueError: it hears something else.
    """
    vocabulary = whisper.vocabulary
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    log_mel = whisper.feature_extractor(
        noise, sampling_rate=SAMPLE_RATE, return_tensors="np"
    ).input_features
    prompt = [
        vocabulary.start,
        next(iter(vocabulary.languages.values())),
        vocabulary.transcribe,
        vocabulary.no_timestamps,
    ]
    tokens, logits = decode(folder, log_mel, prompt, vocabulary.end, CHECKED_TOKENS)
    with torch.inference_mode():
        expected = whisper.model(
            input_features=torch.from_numpy(log_mel),
            decoder_input_ids=torch.tensor([[*prompt, *tokens[:-1]]]),
        ).logits[0, len(prompt) - 1 :]
    off = float(np.abs(logits - expected.numpy()).max())
    if not off < TOLERANCE:
        raise ValueError(f"in onnxruntime its logits are off by {off:.3g}")
