"""The whole path, from a video site to a lower WER, as `make demo` runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def run_demo(folder: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, "-m", "demo", str(folder)], cwd=ROOT, check=True)
    figures: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return figures


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_lowers_the_wer_and_does_nothing_twice(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    assert float(first["WER after"].rstrip("%")) < float(first["WER before"].rstrip("%"))
    assert first["videos seen"] == 10
    assert first["videos taken"] == 8
    assert first["videos refused: not_cc"] == 1
    assert first["videos refused: private"] == 1
    assert first["media files downloaded by this run"] > 0

    second = run_demo(tmp_path)
    assert second["media files downloaded by this run"] == 0
    assert second["segments labelled by this run"] == 0
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"media files downloaded by this run", "segments labelled by this run"}
