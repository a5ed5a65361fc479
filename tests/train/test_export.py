"""What is exported loads and transcribes where it is to be used."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from corpus.dataset import LabelledSegment, window_row, write_dataset
from corpus.errors import UserError
from train import model as models
from train.evaluate import evaluate
from train.export import export, ggml, onnx
from train.predict import Decoding


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a model in it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    models.save(models.load(str(tiny_model)), folder / "model")
    return folder


@pytest.fixture(scope="module")
def heard(whisper_sized: Path, spoken_digits: np.ndarray) -> list[int]:
    """The tokens that the small Whisper writes for the synthetic voice, in transformers."""
    whisper = models.load(str(whisper_sized))
    features = whisper.feature_extractor(
        spoken_digits.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt"
    )
    written = whisper.model.generate(
        features.input_features, language="en", task="transcribe", max_new_tokens=40
    )
    tokens = [token for token in written[0].tolist() if token < whisper.vocabulary.end]
    assert whisper.tokenizer.decode(tokens).strip() == "call number five"
    return tokens


@pytest.mark.parametrize(("quantization", "name"), [(None, "ct2"), ("int8", "ct2-int8")])
def test_an_exported_model_transcribes_in_faster_whisper(
    run: Path, quantization: str | None, name: str
) -> None:
    from faster_whisper import WhisperModel

    folder = export(str(run), quantization=quantization)
    assert folder == run / name
    model = WhisperModel(str(folder), device="cpu", local_files_only=True)
    assert model.model.is_multilingual
    _, info = model.transcribe(np.zeros(16_000, np.float32), max_new_tokens=4, temperature=0.0)
    assert info.language in {"en", "cs", "zh"}
    assert not list(run.glob(".*"))
    with pytest.raises(UserError, match="exists"):
        export(str(run), quantization=quantization)


def test_a_failed_export_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="export to ct2 failed"):
        export(str(run), "ct2", tmp_path / "out", quantization="int7")
    assert not list(tmp_path.iterdir())


def test_a_model_that_was_saved_elsewhere_gets_what_it_lacks(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = export(str(tiny_model), "ct2", tmp_path / "out")
    assert {"tokenizer.json", "preprocessor_config.json"} <= {p.name for p in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert len(config["lang_ids"]) == 3
    # The library's default names 50256, which this vocabulary does not have.
    assert config["suppress_ids_begin"] == [220]


@pytest.fixture
def of_128_mels(tiny_model: Path, tokenizer: Any, tmp_path: Path) -> Path:
    """Folder of a Whisper with large-v3's ears and random weights."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    config = WhisperConfig.from_pretrained(tiny_model, num_mel_bins=128)
    source = tmp_path / "source"
    WhisperForConditionalGeneration(config).save_pretrained(source)
    tokenizer.save_pretrained(source)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(source)
    return source


def test_a_model_of_128_mels_transcribes_in_faster_whisper(
    of_128_mels: Path, tmp_path: Path
) -> None:
    """It takes 80 mels where no file says otherwise."""
    from faster_whisper import WhisperModel

    folder = export(str(of_128_mels), "ct2", tmp_path / "ct2")
    model = WhisperModel(str(folder), device="cpu", local_files_only=True)
    assert model.model.n_mels == 128
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    segments, _ = model.transcribe(noise, language="en", temperature=0.0, max_new_tokens=8)
    assert list(segments)


def test_a_hugging_face_folder_has_all_that_programs_look_for(run: Path) -> None:
    from transformers import pipeline

    folder = export(str(run), "hf")
    assert folder == run / "hf"
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "preprocessor_config.json", "README.md"} <= names
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["lang_to_id"].keys() == {"<|en|>", "<|cs|>", "<|zh|>"}
    assert generation["alignment_heads"]
    assert not generation.get("forced_decoder_ids")
    assert not json.loads((folder / "tokenizer.json").read_text())["model"].get("dropout")
    # A list of this name is what transformers 4 reads; it fails at version 5's name for it.
    assert json.loads((folder / "tokenizer_config.json").read_text())["additional_special_tokens"]
    exported, own = (models.load(str(path)).tokenizer for path in (folder, run))
    assert exported.all_special_tokens == own.all_special_tokens
    heard = pipeline("automatic-speech-recognition", str(folder))(
        np.zeros(16_000, np.float32), generate_kwargs={"max_new_tokens": 4, "language": "en"}
    )
    assert isinstance(heard["text"], str)
    with pytest.raises(UserError, match="leave out --quantization"):
        export(str(run), "hf", quantization="int8")


def test_the_card_tells_what_the_model_was_made_of(
    tiny_model: Path, tmp_path: Path, spoken_segments: list[LabelledSegment]
) -> None:
    dataset = tmp_path / "czech-1"
    speech = [
        {"split": split, "source": "talks | more", "licence": "CC-BY-4.0", "label_kind": "review",
         "redistributable": True, "segments": 9, "seconds": seconds}
        for split, seconds in (("train", 7200.0), ("test", 999.0))
    ]  # fmt: skip
    write_dataset(
        dataset,
        {"test": [window_row("row", [spoken_segments[0]], language="en")]},
        readme="",
        attribution="# Attribution for czech-1\n",
        manifest={"languages": ["cs"], "speech": speech},
    )
    run = tmp_path / "run"
    models.save(models.load(str(tiny_model)), run / "model")
    record = {
        "config": {"model": "openai/whisper-tiny", "datasets": [str(dataset)], "epochs": 3.0},
        "steps": 40,
        "versions": {"torch": "2.13.0"},
    }
    (run / "run.json").write_text(json.dumps(record))
    found = evaluate(str(run), [dataset], Decoding())
    folder = export(str(run), "hf")
    card = (folder / "README.md").read_text()
    assert 'language: ["cs"]' in card
    assert 'base_model: "openai/whisper-tiny"' in card
    assert "| talks \\| more | 2.00 |" in card
    assert "| CC-BY-4.0 | 2.00 |" in card
    assert f"| {100 * found['normalised']['wer']:.2f} (" in card
    assert "train fit czech-1 --model openai/whisper-tiny" in card
    assert "| torch | 2.13.0 |" in card
    assert (folder / "ATTRIBUTION.md").read_text() == "# Attribution for czech-1\n"


def test_a_card_says_which_dataset_is_gone_and_names_no_folder_of_this_machine(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "model", tmp_path / "run" / "model")
    gone, base = str(tmp_path / "gone-1"), str(tmp_path / "base" / "model")
    record = {"steps": 4, "config": {"model": base, "datasets": [gone, "some/set"]}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    card = (export(str(tmp_path / "run"), "hf") / "README.md").read_text()
    assert "authors of gone-1 are not told" in card
    assert "base_model" not in card
    assert "train fit gone-1 some/set --model base\n" in card
    assert str(tmp_path) not in card
    assert f"{gone}: not there" in capsys.readouterr().err


def test_ways_of_decoding_are_told_apart_in_a_run_and_its_card(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text("{}")
    for how in (Decoding(), Decoding(detect_language=True), Decoding(timestamps=True)):
        evaluate(str(tmp_path / "run"), [dataset], how)
    kept = sorted(path.stem for path in (tmp_path / "run" / "evaluations").iterdir())
    assert kept == ["tones-test", "tones-test-detect-language", "tones-test-timestamps"]
    card = (export(str(tmp_path / "run"), "hf") / "README.md").read_text()
    for told in ("test", "test, detect-language", "test, timestamps"):
        assert f"| tones: all | {told} |" in card


def test_the_card_of_a_run_that_was_not_finished_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "averaged" / "model")
    record = {"status": "running", "config": {"model": "openai/whisper-tiny", "datasets": ["a/b"]}}
    (tmp_path / "averaged" / "run.json").write_text(json.dumps(record))
    card = (export(str(tmp_path / "averaged"), "hf") / "README.md").read_text()
    assert "`openai/whisper-tiny` fine-tuned on b, a run that was not finished with" in card


# --- openai/whisper ---


def test_a_file_for_openai_whisper_computes_what_transformers_does(
    whisper_sized: Path, heard: list[int], spoken_digits: np.ndarray, tmp_path: Path
) -> None:
    path = export(str(whisper_sized), "openai", tmp_path / "model.pt")
    file = torch.load(path, weights_only=True)
    assert file["dims"]["n_vocab"] == 51865
    whisper = models.load(str(whisper_sized))
    vocabulary = whisper.vocabulary
    prompt = [vocabulary.start, vocabulary.languages["en"], vocabulary.transcribe]
    tokens = torch.tensor([[*prompt, vocabulary.no_timestamps, *heard]])
    features = whisper.feature_extractor(
        spoken_digits.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.inference_mode():
        expected = whisper.model(input_features=features, decoder_input_ids=tokens).logits
        found = logits_by_openai(file, features, tokens)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def logits_by_openai(file: dict[str, Any], mel: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """A reader of its own: openai/whisper's model, written down from its names and dimensions."""
    state, dims = file["model_state_dict"], file["dims"]

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"]
        )

    def attend(name: str, x: torch.Tensor, other: torch.Tensor, heads: int, causal: bool) -> Any:
        query, key, value = (
            linear(f"{name}.{part}", one).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, one in (("query", x), ("key", other), ("value", other))
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        if causal:
            scores += torch.full(scores.shape[-2:], -math.inf).triu(1)
        return linear(f"{name}.out", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))

    def block(name: str, x: torch.Tensor, audio: torch.Tensor | None, heads: int) -> torch.Tensor:
        normed = norm(f"{name}.attn_ln", x)
        x = x + attend(f"{name}.attn", normed, normed, heads, causal=audio is not None)
        if audio is not None:
            normed = norm(f"{name}.cross_attn_ln", x)
            x = x + attend(f"{name}.cross_attn", normed, audio, heads, causal=False)
        normed = norm(f"{name}.mlp_ln", x)
        return x + linear(f"{name}.mlp.2", functional.gelu(linear(f"{name}.mlp.0", normed)))

    x = mel
    for number, stride in ((1, 1), (2, 2)):
        weight, bias = (state[f"encoder.conv{number}.{kind}"] for kind in ("weight", "bias"))
        x = functional.gelu(functional.conv1d(x, weight, bias, stride, padding=1))
    audio = x.transpose(1, 2) + state["encoder.positional_embedding"]
    for layer in range(dims["n_audio_layer"]):
        audio = block(f"encoder.blocks.{layer}", audio, None, dims["n_audio_head"])
    audio = norm("encoder.ln_post", audio)
    embedding = state["decoder.token_embedding.weight"]
    x = embedding[tokens] + state["decoder.positional_embedding"][: tokens.shape[1]]
    for layer in range(dims["n_text_layer"]):
        x = block(f"decoder.blocks.{layer}", x, audio, dims["n_text_head"])
    return norm("decoder.ln", x) @ embedding.T


def test_a_file_for_openai_whisper_is_decoded_by_it(
    whisper_sized: Path, heard: list[int], spoken_digits: np.ndarray, tmp_path: Path
) -> None:
    whisper = pytest.importorskip("whisper", reason="openai-whisper is not installed")
    path = export(str(whisper_sized), "openai", tmp_path / "model.pt", "float16")
    model = whisper.load_model(str(path), device="cpu")
    mel = whisper.log_mel_spectrogram(
        whisper.pad_or_trim(spoken_digits.astype(np.float32) / 32768), model.dims.n_mels
    )
    # Its own tokenizer names other words: what it suppresses by default are some of these.
    options = whisper.DecodingOptions(
        language="en", without_timestamps=True, suppress_tokens="", fp16=False
    )
    assert whisper.decode(model, mel, options).tokens == heard


# --- whisper.cpp ---


def test_whisper_cpp_transcribes_a_ggml_file(
    whisper_sized: Path, spoken_digits: np.ndarray, tmp_path: Path
) -> None:
    from pywhispercpp.model import Model

    path = export(str(whisper_sized), "ggml", tmp_path / "ggml.bin")
    model = Model(str(path), redirect_whispercpp_logs_to=None, n_threads=1)
    padded = np.pad(spoken_digits, (0, 16_000)).astype(np.float32) / 32768
    segments = model.transcribe(padded, language="en", no_timestamps=True, single_segment=True)
    assert " ".join(segment.text.strip() for segment in segments) == "call number five"


def test_a_ggml_file_holds_the_model(whisper_sized: Path, tmp_path: Path) -> None:
    file = ggml.read(export(str(whisper_sized), "ggml", tmp_path / "ggml.bin"))
    assert file.header == (51865, 1500, 96, 3, 3, 448, 96, 3, 3, 80, 1)
    assert file.filters.shape == (80, 201)
    assert len(file.tokens) == 50257
    assert file.tokens[220] == b" "
    weights = models.load(str(whisper_sized)).model.state_dict()
    embedding = file.tensors["decoder.token_embedding.weight"]
    expected = weights["model.decoder.embed_tokens.weight"]
    np.testing.assert_array_equal(embedding, expected.numpy().astype(np.float16))
    assert file.tensors["encoder.conv1.bias"].shape == (96, 1)
    assert file.tensors["encoder.conv1.bias"].dtype == np.float32
    with pytest.raises(ValueError, match="no ggml file"):
        ggml.read(whisper_sized / "config.json")


@pytest.mark.parametrize("to", ["openai", "ggml"])
def test_a_vocabulary_that_a_program_does_not_know_is_refused(
    tiny_model: Path, whisper_sized: Path, tmp_path: Path, to: str
) -> None:
    with pytest.raises(UserError, match="no other, and this model has"):
        export(str(tiny_model), to, tmp_path / "out")
    with pytest.raises(UserError, match=r"no precision int8|has one form only"):
        export(str(whisper_sized), to, tmp_path / "out", "int8")
    assert not list(tmp_path.iterdir())


# --- ONNX ---


@pytest.fixture(scope="module")
def in_onnx(whisper_sized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Whisper, exported."""
    return export(str(whisper_sized), "onnx", tmp_path_factory.mktemp("onnx") / "model")


def log_mel(whisper: models.Whisper, pcm: np.ndarray) -> np.ndarray:
    return whisper.feature_extractor(
        pcm.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="np"
    ).input_features


def test_an_onnx_model_writes_what_the_model_writes(
    whisper_sized: Path, in_onnx: Path, heard: list[int], spoken_digits: np.ndarray
) -> None:
    names = {path.relative_to(in_onnx).as_posix() for path in in_onnx.rglob("*")}
    assert {"config.json", "generation_config.json", "preprocessor_config.json"} <= names
    assert {"tokenizer.json", "onnx/encoder_model.onnx"} <= names
    assert not any("safetensors" in name for name in names)
    assert 'library_name: "transformers.js"' in (in_onnx / "README.md").read_text()
    whisper = models.load(str(whisper_sized))
    known = whisper.vocabulary
    prompt = [known.start, known.languages["en"], known.transcribe, known.no_timestamps]
    mel = log_mel(whisper, spoken_digits)
    tokens, logits = onnx.decode(in_onnx, mel, prompt, known.end, room=40)
    assert tokens == [*heard, known.end]
    with torch.inference_mode():
        expected = whisper.model(
            input_features=torch.from_numpy(mel), decoder_input_ids=torch.tensor([prompt + heard])
        ).logits[0, len(prompt) - 1 :]
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-3, rtol=1e-3)


def test_an_onnx_decoder_takes_several_sounds_and_tokens_at_a_time(
    whisper_sized: Path, in_onnx: Path, heard: list[int], spoken_digits: np.ndarray
) -> None:
    from onnxruntime import InferenceSession

    whisper = models.load(str(whisper_sized))
    mels = [log_mel(whisper, pcm) for pcm in (spoken_digits, spoken_digits[::-1])]
    encoder, decoder = (InferenceSession(in_onnx / name) for name in (onnx.ENCODER, onnx.DECODER))
    (states,) = encoder.run(None, {"input_features": np.concatenate(mels)})
    caches = [put for put in decoder.get_inputs() if put.name.startswith("past_key_values.")]
    names = [put.name.replace("present", "past_key_values") for put in decoder.get_outputs()]
    nothing = {p.name: np.zeros((2, p.shape[1], 0, p.shape[3]), np.float32) for p in caches}

    def run(tokens: list[int], cache: dict[str, np.ndarray], *, go_on: bool) -> Any:
        given = {"input_ids": np.array([tokens] * 2), "encoder_hidden_states": states}
        return decoder.run(None, {**given, "use_cache_branch": np.array([go_on]), **cache})

    whole = run(heard, nothing, go_on=False)
    begun = dict(zip(names[1:], run(heard[:2], nothing, go_on=False)[1:], strict=True))
    rest = run(heard[2:], begun, go_on=True)
    np.testing.assert_allclose(rest[0], whole[0][:, 2:], atol=1e-3)
    assert not np.allclose(whole[0][0], whole[0][1], atol=1e-1)  # two sounds, not one twice


def test_an_onnx_model_that_hears_otherwise_is_no_success(
    whisper_sized: Path, in_onnx: Path
) -> None:
    whisper = models.load(str(whisper_sized))
    positions = whisper.model.model.decoder.embed_positions.weight
    positions.data = positions.data.roll(1, 0)  # as if the cache were one token off
    with pytest.raises(ValueError, match="logits are off by"):
        onnx.check(whisper, in_onnx)


@pytest.mark.slow
def test_weights_beside_the_graph_and_128_mels_survive_onnx(
    of_128_mels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of large-v3, whose weights are over 2 GB."""
    monkeypatch.setattr(onnx, "LARGEST_FILE", 100_000)
    folder = export(str(of_128_mels), "onnx", tmp_path / "onnx")
    assert (folder / f"{onnx.ENCODER}_data").stat().st_size > 100_000
    config = json.loads((folder / "config.json").read_text())
    told = config["transformers.js_config"]["use_external_data_format"]
    assert told == {"encoder_model.onnx": 1, "decoder_model_merged.onnx": 1}
    onnx.check(models.load(str(of_128_mels)), folder)


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnxscript; `pip install .*\[onnx\]"):
        export(str(tiny_model), "onnx", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_run_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        export(str(tmp_path / "none"))
