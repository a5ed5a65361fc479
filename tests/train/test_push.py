"""What is uploaded to the Hub: what was asked for, and nothing else."""

from pathlib import Path

import pytest

from train import model as models
from train.compare import is_dataset

from ..hub import READ_TOKEN, TOKEN, Repository, files_of, open_hub


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run's folder with a model in it."""
    models.save(models.load(str(tiny_model)), tmp_path / "run" / "model")
    return tmp_path / "run"


def test_push_makes_a_private_model_of_the_export_and_contacts_nobody_else(
    run: Path, tmp_path: Path
) -> None:
    with open_hub() as hub:
        command = ["train", "export", run, "--to", "hf", "--push", "me/tiny"]
        done = hub.run(*command, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{hub.address}/me/tiny: uploaded" in done.stdout
        ((where, made),) = hub.repositories.items()
        assert where == ("models", "me/tiny")
        assert made.private
        assert made.files == files_of(run / "hf")
        assert {"README.md", "model.safetensors", "tokenizer.json"} <= made.files.keys()
        assert TOKEN not in done.stdout + done.stderr
        assert hub.elsewhere == []


def test_an_export_that_is_not_pushed_contacts_nobody(run: Path, tmp_path: Path) -> None:
    with open_hub() as hub:
        done = hub.run("train", "export", run, "--to", "hf", home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (hub.requests, hub.elsewhere) == ([], [])


def test_a_refused_token_is_told_in_one_line_and_the_export_stays(
    run: Path, tmp_path: Path
) -> None:
    with open_hub() as hub:
        command = ["train", "export", run, "--to", "hf", "--push", "me/tiny"]
        done = hub.run(*command, home=tmp_path, token=READ_TOKEN)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: me/tiny: not uploaded (the Hub does not let you")
        assert "hf_" not in line
        assert hub.repositories == {}
        *_, by_hand, _ = line.split("`")
        done = hub.run("huggingface_hub.cli.hf", *by_hand.split()[1:], home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert hub.repositories["models", "me/tiny"].private
        assert hub.repositories["models", "me/tiny"].files == files_of(run / "hf")


def test_a_name_of_the_hub_is_what_the_hub_has_under_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        for kind, name in (("models", "me/w"), ("datasets", "me/speech"), ("models", "me/both")):
            hub.repositories[kind, name] = Repository(private=False)
        hub.repositories["datasets", "me/both"] = Repository(private=False)
        found = {name: is_dataset(name) for name in ("me/w", "me/speech", "me/both", "me/none")}
        assert found == {"me/w": False, "me/speech": True, "me/both": False, "me/none": False}
        asked = len(hub.requests)
        monkeypatch.chdir(tmp_path)
        Path("runs").mkdir()
        assert not is_dataset("runs/typo")
        assert not is_dataset("predictions.jsonl")
        assert len(hub.requests) == asked
    assert not is_dataset("me/speech")  # nobody answers
