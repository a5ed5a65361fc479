"""Rounds of self-training run end to end, and what they have done they do not do again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rounds import prepare
from corpus.errors import UserError
from corpus.iterate import Round, Rounds, print_rounds
from corpus.workspace import Workspace, init_workspace, open_workspace


def corpus(*arguments: object) -> str:
    command = [sys.executable, "-m", "corpus", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def rounds_of(workspace: Path, count: int) -> list[dict[str, Any]]:
    arguments = ("--iterations", count, "--workspace", workspace, "--json")
    found: list[dict[str, Any]] = json.loads(corpus("run", *arguments))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rounds_label_with_the_last_model_and_carry_on_where_they_were(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    corpus("init", workspace, "--language", "en")
    prepare(workspace, talks=2, steps=6)
    first = rounds_of(workspace, 1)
    assert [one["number"] for one in first] == [0, 1]
    assert first[1]["labelled_by"] == "model"
    assert 0 < first[1]["pseudo_hours"] < first[1]["hours"]
    trained = workspace / "runs" / "main-round-1" / "model" / "model.safetensors"
    made_at = trained.stat().st_mtime_ns

    found = rounds_of(workspace, 2)
    assert found[:2] == first
    assert found[2]["labelled_by"] == "main-round-1"
    assert trained.stat().st_mtime_ns == made_at
    assert rounds_of(workspace, 2) == found
    low, high = found[2]["wer_interval"]
    assert low <= found[2]["wer"] <= high


def workspace_with(folder: Path, settings: str) -> Workspace:
    init_workspace(folder, "en")
    (folder / "corpus.toml").write_text(f'language = "en"\n{settings}')
    return open_workspace(folder)


def test_a_workspace_that_names_no_model_to_train_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set model under \[train\]"):
        Rounds(workspace_with(tmp_path / "ws", ""))


def test_the_first_round_is_labelled_by_the_labelling_model_where_there_is_one(
    tmp_path: Path,
) -> None:
    plain = Rounds(workspace_with(tmp_path / "a", '[train]\nmodel = "openai/whisper-tiny"\n'))
    assert plain.labelling_model(1) == "openai/whisper-tiny"
    assert plain.labelling_model(2) == str(plain.run(1))
    large = '[label]\nmodel = "large-v3"\n[train]\nmodel = "openai/whisper-tiny"\n'
    assert Rounds(workspace_with(tmp_path / "b", large)).labelling_model(1) == "large-v3"


def test_a_round_that_fails_says_how_to_go_on(tmp_path: Path) -> None:
    rounds = Rounds(workspace_with(tmp_path / "ws", '[train]\nmodel = "/no/such/model"\n'))
    with pytest.raises(UserError, match=r"train evaluate failed.*the same command carries on"):
        rounds.train(1)


def test_the_table_has_a_row_for_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    print_rounds(
        [
            Round(0, None, 0.0, 0.0, 0.675, (0.6, 0.75), 0.5),
            Round(1, "model", 0.25, 0.125, 0.5, (0.45, 0.55), 0.4),
        ]
    )
    table = capsys.readouterr().out
    assert "67.50" in table
    assert "45.00-55.00" in table
