"""Who may import whom: the stages stand on their ground, and training needs no catalogue."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

FOR_TRAINING = {"pack", "dataset", "audio", "text", "hub", "files", "errors", "console", "cuda"}
"""Of `corpus`: what windows are, how they are stored, and what all command lines share."""


def imported(package: str) -> set[str]:
    """Full names of all modules and objects that the modules of a package import."""
    names = set()
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: an import that does not tell from where"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def of(package: str, names: set[str]) -> set[str]:
    """The second parts of those names that begin with a package."""
    parts = (name.split(".") for name in names)
    return {part[1] for part in parts if part[0] == package and len(part) > 1}


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("corpus", ["review_app", "train", "demo"]),
        ("review_app", ["train", "demo"]),
        ("train", ["review_app", "demo"]),
    ],
)
def test_imports_go_one_way(package: str, others: list[str]) -> None:
    names = imported(package)
    assert not {name for name in names if name.split(".")[0] in others}


def test_training_knows_of_the_corpus_only_its_datasets() -> None:
    assert of("corpus", imported("train")) <= FOR_TRAINING
