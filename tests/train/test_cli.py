"""The command line: help at once, one-line errors, JSON for machines."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus.dataset import LabelledSegment, window_row, write_dataset
from train.cli import main
from train.rows import read_flac

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Runs the command line: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def test_help_needs_no_heavy_library() -> None:
    heavy = "torch transformers deepspeed datasets faster_whisper ctranslate2"
    code = (
        "import sys; from typer.testing import CliRunner; from train.cli import app; "
        "assert CliRunner().invoke(app, ['fit', '--help']).exit_code == 0; "
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_every_command_has_help_with_an_example(train: Train) -> None:
    names = ("fit", "plan", "autobatch", "inspect", "evaluate", "compare", "average", "export")
    for command in names:
        code, out, _ = train(command, "--help")
        assert code == 0
        assert f"train {command} " in out.split("Examples:")[1]


def test_wrong_input_is_one_line_and_exit_code_1(
    train: Train, tmp_path: Path, tiny_model: Path
) -> None:
    for arguments in (
        ["fit", "--model", str(tiny_model)],
        ["fit", str(tmp_path / "none"), "--model", str(tiny_model), "--deepspeed", "none"],
        ["evaluate", str(tiny_model), str(tmp_path / "none")],
        ["compare", str(tiny_model), str(tmp_path / "none")],
        ["export", str(tmp_path / "none")],
    ):
        code, out, err = train(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


def test_inspect_shows_what_is_given_and_what_is_learnt(
    train: Train, tmp_path: Path, tiny_model: Path, dataset: Path
) -> None:
    arguments = ["inspect", str(dataset), "--model", str(tiny_model), "-n", "6"]
    arguments += ["--set", "repack=false"]
    code, out, _ = train(*arguments, "--audio", str(tmp_path / "listen"), "--json")
    assert code == 0
    windows = json.loads(out)
    assert len(windows) == 6
    for window in windows:
        parts = window["parts"]
        kinds = [kind for kind, _ in parts]
        assert kinds[0] == "given"
        assert all(before != after for before, after in itertools.pairwise(kinds))
        said = "".join(text for _, text in parts)
        assert said.startswith(("<|startoftranscript|>", "<|startofprev|>"))
        assert parts[-1][1].endswith("<|endoftext|>")
        learnt = "".join(text for kind, text in parts if kind == "learnt")
        assert learnt.startswith("<|en|>")
        assert "transcribe" not in learnt
        pcm = read_flac(Path(window["audio"]).read_bytes())
        assert pcm.size == 480_000
        assert pcm[round(window["seconds"] * 16_000) :].any() == 0

    code, out, _ = train(*arguments)
    assert code == 0
    assert "  learnt  <|en|>" in out
    code, _, err = train(*arguments, "--audio", str(tmp_path / "listen"))
    assert code == 1
    assert "not empty" in err


def test_plan_tells_hours_licences_steps_and_memory(
    train: Train, tiny_model: Path, dataset: Path
) -> None:
    code, out, _ = train("plan", str(dataset), "--model", str(tiny_model), "--gpus", "2")
    assert code == 0
    for told in ("CC0-1.0", "windows an epoch", "steps", "1 micro-batches of 8", "GiB"):
        assert told in out


@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_a_language_without_a_token_borrows_one_that_is_named(
    train: Train,
    tiny_model: Path,
    tmp_path: Path,
    spoken_segments: list[LabelledSegment],
    command: str,
) -> None:
    rows = [window_row("window-0", spoken_segments[:4], language="tw")]
    folder = tmp_path / "twi"
    write_dataset(folder, {"train": rows}, readme="", attribution="", manifest={})
    arguments = [command, str(folder), "--model", str(tiny_model)]
    code, _, err = train(*arguments)
    assert code == 1
    assert "--language-token" in err
    assert train(*arguments, "--language-token", "en")[0] == 0


def test_autobatch_tells_what_to_give_to_fit(train: Train, tiny_model: Path) -> None:
    options = ["--set", "batch_size=2", "--set", "deepspeed=none"]
    code, out, _ = train("autobatch", "--model", str(tiny_model), *options)
    assert code == 0
    assert "next: train fit ... --micro-batch " in out


def test_wrong_usage_is_exit_code_2(train: Train, tiny_model: Path) -> None:
    assert train("export", str(tiny_model), "--to", "tflite")[0] == 2
    assert train("export", str(tiny_model), "--to", "ct2", "--push", "me/tiny")[0] == 2
    assert train("evaluate", str(tiny_model))[0] == 2
    for alphas in ("half", "0.2,2"):
        assert train("average", "a", "--base", "b", "--alphas", alphas)[0] == 2
    assert train("average", "a", "--alphas", "0.5")[0] == 2
    assert train("plan", "a", "--model", "b", "--gpus", "0")[0] == 2


def test_json_is_one_document_on_stdout(train: Train, tmp_path: Path, tiny_model: Path) -> None:
    code, out, _ = train("export", str(tiny_model), "--output", str(tmp_path / "ct2"), "--json")
    assert code == 0
    assert json.loads(out)["output"] == str(tmp_path / "ct2")
