"""What is exported loads and transcribes where it is to be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from corpus.errors import UserError
from train import model as models
from train.export import to_ctranslate2


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a model in it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    models.save(models.load(str(tiny_model)), folder / "model")
    return folder


@pytest.mark.parametrize(("quantization", "name"), [("float32", "ct2"), ("int8", "ct2-int8")])
def test_an_exported_model_transcribes_in_faster_whisper(
    run: Path, quantization: str, name: str
) -> None:
    from faster_whisper import WhisperModel

    folder = to_ctranslate2(str(run), quantization=quantization)
    assert folder == run / name
    model = WhisperModel(str(folder), device="cpu", local_files_only=True)
    assert model.model.is_multilingual
    _, info = model.transcribe(np.zeros(16_000, np.float32), max_new_tokens=4, temperature=0.0)
    assert info.language in {"en", "cs", "zh"}
    assert not list(run.glob(".*"))
    with pytest.raises(UserError, match="exists"):
        to_ctranslate2(str(run), quantization=quantization)


def test_a_failed_export_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="conversion to CTranslate2 failed"):
        to_ctranslate2(str(run), tmp_path / "out", quantization="int7")
    assert not list(tmp_path.iterdir())


def test_a_model_that_was_saved_elsewhere_gets_what_it_lacks(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = to_ctranslate2(str(tiny_model), tmp_path / "out")
    assert {"tokenizer.json", "preprocessor_config.json"} <= {p.name for p in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert len(config["lang_ids"]) == 3
    # The library's default names 50256, which this vocabulary does not have.
    assert config["suppress_ids_begin"] == [220]


def test_a_missing_run_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        to_ctranslate2(str(tmp_path / "none"))
