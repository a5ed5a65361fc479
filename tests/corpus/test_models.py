"""Which model is behind a name, and what it was made from."""

import json
import shutil
from pathlib import Path

import pytest

from corpus.errors import UserError
from corpus.models import find_model, read_lineage
from corpus.workspace import Workspace

from .conftest import MODEL


def test_a_run_tells_the_chain_of_its_models(workspace: Workspace, tmp_path: Path) -> None:
    def run(name: str, base: str, dataset: str | None) -> Path:
        folder = workspace.root / "runs" / name
        (folder / "model").mkdir(parents=True)
        config = {"model": base, "datasets": [dataset] if dataset else [], "steps": 100}
        (folder / "run.json").write_text(json.dumps({"config": config}))
        return folder

    dataset = workspace.datasets / "second"
    dataset.mkdir(parents=True)
    (dataset / "manifest.json").write_text(json.dumps({"fingerprint": "abc"}))
    run("first", "openai/whisper-small", None)
    second = run("second", str(workspace.root / "runs" / "first"), "datasets/second")
    lineage = read_lineage(second / "model", workspace.root)
    assert lineage["run"] == "second"
    assert lineage["datasets"] == [{"name": "second", "fingerprint": "abc"}]
    assert lineage["base"]["name"] == "runs/first"
    assert lineage["base"]["base"] == {"name": "openai/whisper-small"}
    assert read_lineage(tmp_path, workspace.root) == {}


@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, is absent")
def test_alignment_heads_of_another_model_are_told(workspace: Workspace, tmp_path: Path) -> None:
    source = shutil.copytree(MODEL, tmp_path / "source")
    settings = json.loads((source / "generation_config.json").read_text())
    for heads in ([[3, 0]], [[2, 0], [1, 3]]):
        wrong = json.dumps(settings | {"alignment_heads": heads})
        (source / "generation_config.json").write_text(wrong)
        with pytest.raises(UserError, match="alignment_heads of another model"):
            find_model(workspace, str(source))


@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, is absent")
def test_settings_that_were_mended_are_converted_anew(workspace: Workspace, tmp_path: Path) -> None:
    source = shutil.copytree(MODEL, tmp_path / "source")
    settings = source / "generation_config.json"
    whole = settings.read_text()
    settings.write_text(json.dumps(json.loads(whole) | {"suppress_tokens": [5]}))
    before = find_model(workspace, str(source))
    assert find_model(workspace, str(source)).path == before.path
    settings.write_text(whole)
    after = find_model(workspace, str(source))
    assert after.path != before.path
    assert after.origin == before.origin  # its labels are those of the same weights


def test_a_folder_that_is_no_model_is_told(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Whisper model here"):
        find_model(workspace, str(tmp_path))
