"""Rounds of self-training: label with the last model, judge, build, fine-tune, measure, again.

Each round starts from the same model and has the labels that the last round's model made, so that
a round is better only if its labels are (noisy student training: Xie et al. 2020, arXiv:1911.04252;
for speech Park et al. 2020, arXiv:2005.09629). All rounds are measured on the first round's test
split, in which no model's label is. `train` is called as a program: collecting needs no trainer.

A round leaves a dataset, a run and its line in runs/NAME-rounds.json; what is there is not done
again, so that a killed command carries on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corpus import console
from corpus.dataset import read_manifest
from corpus.errors import UserError
from corpus.workspace import Workspace


@dataclass(frozen=True)
class Round:
    """What a round had and what came of it; round 0 is the model as it was.

    Attributes:
        labelled_by: the model that made its pseudo-labels.
        hours, pseudo_hours: speech to train on, and what of it only a model has labelled.
        wer, wer_interval, cer: normalised, on the test split of round 1.
    """

    number: int
    labelled_by: str | None
    hours: float
    pseudo_hours: float
    wer: float
    wer_interval: Sequence[float]
    cer: float


class Rounds:
    """The rounds of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        settings = workspace.config
        if settings.train.model is None:
            raise UserError(
                "which model is fine-tuned? set model under [train] in corpus.toml, such as "
                '"openai/whisper-small"'
            )
        self.workspace = workspace
        self.name = settings.build.name
        self.runs = workspace.root / "runs"
        self.model = self._folder_or_name(settings.train.model)
        self.labeller = self._folder_or_name(settings.label.model or settings.train.model)
        self.done: list[Round] = []

    def dataset(self, number: int) -> Path:
        """The dataset of a round."""
        return self.workspace.datasets / f"{self.name}-round-{number}"

    def run(self, number: int) -> Path:
        """The run of a round."""
        return self.runs / f"{self.name}-round-{number}"

    def labelling_model(self, number: int) -> str:
        """The model that labels in a round: the last round's."""
        return self.labeller if number == 1 else str(self.run(number - 1))

    def train(self, number: int) -> None:
        """Fine-tune on a round's dataset and measure the result, unless that is done.

        Raises:
            UserError: `train` failed.
        """
        if not self.done:
            self.done = self._read()
        if not self.done:
            self._note(0, self.model, None)
        if any(found.number == number for found in self.done):
            return
        file = self.workspace.config.train.config
        settings = ("--config", self.workspace.path(file)) if file else ()
        _train(
            *("fit", self.dataset(number), "--model", self.model, "--output", self.run(number)),
            *settings,
        )
        self._note(number, str(self.run(number)), self.labelling_model(number))

    def _note(self, number: int, model: str, labelled_by: str | None) -> None:
        found = _train("evaluate", model, self.dataset(1))
        speech = read_manifest(self.dataset(number)).get("speech", []) if number else []
        trained = [part for part in speech if part["split"] == "train"]
        figures = found["normalised"]
        self.done.append(
            Round(
                number=number,
                labelled_by=labelled_by and Path(labelled_by).name,
                hours=sum(part["seconds"] for part in trained) / 3600,
                pseudo_hours=sum(p["seconds"] for p in trained if p["label_kind"] == "pseudo")
                / 3600,
                wer=figures["wer"],
                wer_interval=figures["wer_interval"],
                cer=figures["cer"],
            )
        )
        self._write()

    @property
    def _file(self) -> Path:
        return self.runs / f"{self.name}-rounds.json"

    def _read(self) -> list[Round]:
        if not self._file.exists():
            return []
        return [Round(**one) for one in json.loads(self._file.read_text(encoding="utf-8"))]

    def _write(self) -> None:
        self.runs.mkdir(exist_ok=True)
        part = self._file.with_name(f".{self._file.name}.part")
        part.write_text(json.dumps(list(map(asdict, self.done)), indent=2) + "\n", encoding="utf-8")
        os.replace(part, self._file)

    def _folder_or_name(self, name: str) -> str:
        """A folder of the workspace or elsewhere on this machine, else a name of the Hub."""
        folder = self.workspace.path(name)
        return str(folder) if folder.is_dir() else name


def _train(*arguments: object) -> Any:
    """Run `train` in this Python, its progress on our stderr, and read what it prints."""
    words = list(map(str, arguments))
    console.say(f"$ train {' '.join(words)}")
    done = subprocess.run(
        [sys.executable, "-m", "train", *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(
            f"train {words[0]} failed, and said why above; put that right, and the same command "
            "carries on"
        )
    return json.loads(done.stdout)


def print_rounds(rounds: Sequence[Round]) -> None:
    """Print the table."""
    console.print_table(
        "Rounds, on the test split of round 1",
        ["round", "labelled by", "hours", "by a model", "WER %", "95 %", "CER %"],
        [
            [
                one.number,
                one.labelled_by,
                one.hours,
                one.pseudo_hours,
                100 * one.wer,
                "-".join(f"{100 * end:.2f}" for end in one.wer_interval),
                100 * one.cer,
            ]
            for one in rounds
        ],
    )
