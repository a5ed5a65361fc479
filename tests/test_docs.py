"""The documents tell no commands, options or files that do not exist."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[1]
LAUNCHERS = {"torchrun", "deepspeed", "accelerate"}
PROGRAMS = {"corpus", "train", "review_app", *LAUNCHERS}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def command_lines(document: Path) -> list[str]:
    """The lines of a document's code blocks that call one of the three programs."""
    lines = re.findall(r"^ {4}(.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    parts = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.split(" ")[0] in PROGRAMS]


def program(name: str) -> Any:
    """The command behind a program; a group has `commands`."""
    if name == "corpus":
        from corpus.cli import app
    elif name == "train":
        from train.cli import app
    else:
        from review_app.cli import cli as app
    return typer.main.get_command(app)


def parse(line: str) -> None:
    """Parse a command line as its program would, without running it."""
    words = shlex.split(line.replace("...", ""))
    if words[0] in LAUNCHERS:
        words = words[words.index("train") :]
    command, arguments = program(words[0]), words[1:]
    while hasattr(command, "commands"):
        if command.invoke_without_command and (not arguments or arguments[0].startswith("-")):
            break
        assert arguments[0] in command.commands, f"{arguments[0]} is no command"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(words[0], arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_is_understood(document: Path) -> None:
    for line in command_lines(document):
        try:
            parse(line)
        except Exception as error:
            pytest.fail(f"{document.name}: `{line}`: {error or type(error).__name__}")


def test_the_documents_show_every_command() -> None:
    told = " ".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    for name in ("corpus", "train", "review_app"):
        for command in program(name).commands:
            assert f"{name} {command}" in told, f"no document shows `{name} {command}`"


def test_files_that_the_documents_link_to_exist() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_file_tree_of_the_readme_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("corpus", "train", "demo"):
        for module in sorted((ROOT / package).glob("*.py")):
            if not module.name.startswith("__"):
                assert module.name in readme, f"the README does not name {package}/{module.name}"


def test_a_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"


def test_continuous_integration_is_an_executable_script() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
