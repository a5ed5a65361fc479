"""Features equal to the library's, and saved models without the known traps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from corpus.errors import UserError
from train import model as models


@pytest.mark.parametrize("mels", [80, 128])
def test_log_mel_equals_the_feature_extractors(mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    chance = np.random.default_rng(0)
    pcm = (chance.normal(0, 3000, (3, 480_000))).astype(np.int16)
    pcm[1, 100_000:] = 0  # a short clip
    pcm[2] = 0  # silence
    extractor = WhisperFeatureExtractor(feature_size=mels)
    expected = extractor(
        list(pcm.astype(np.float32) / 32768), sampling_rate=16_000, return_tensors="pt"
    ).input_features
    ours = models.LogMel(extractor)(torch.from_numpy(pcm))
    assert ours.shape == (3, mels, 3000)
    assert (ours - expected).abs().max() < 1e-5


def test_a_saved_model_is_ready_for_other_programs(tiny_model: Path, tmp_path: Path) -> None:
    whisper = models.load(str(tiny_model))
    whisper.tokenizer.backend_tokenizer.model.dropout = 0.1
    models.save(whisper, tmp_path / "model")
    saved = {path.name for path in (tmp_path / "model").iterdir()}
    assert saved >= {
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
        "processor_config.json",
        "generation_config.json",
    }
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    assert tokenizer["model"]["dropout"] is None

    again = models.load(str(tmp_path / "model"))
    generation = again.model.generation_config
    assert generation.lang_to_id["<|cs|>"] == again.vocabulary.languages["cs"]
    assert generation.alignment_heads == whisper.model.generation_config.alignment_heads
    assert not getattr(generation, "forced_decoder_ids", None)
    for ours, theirs in zip(whisper.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_for_english_only_is_refused_in_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "openai" / "whisper-tiny.en"
    folder.parent.mkdir()
    models.save(models.load(str(tiny_model)), folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["is_multilingual"] = False
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"English only; .*, such as openai/whisper-small$"):
        models.load(str(folder))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"English only; .*, openai/whisper-tiny$"):
        models.load("openai/whisper-tiny.en")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "a/b/c"])
def test_a_missing_model_is_told_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match="no such folder"):
        models.load(name)


def test_a_folder_without_a_model_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model in this folder"):
        models.load(str(tmp_path))
