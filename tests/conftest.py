"""Fixtures that the whole suite shares."""

from pathlib import Path

import pytest

from corpus.catalogue import Catalogue
from corpus.workspace import Workspace, init_workspace

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech, subtitles and broken media that are not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real test material is absent: ../shared/data does not exist")
    return SHARED_DATA


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh workspace for English."""
    return init_workspace(tmp_path / "workspace", "en")


@pytest.fixture
def catalogue(workspace: Workspace) -> Catalogue:
    """The catalogue of the fresh workspace."""
    return Catalogue(workspace.catalogue_url)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whisper", metavar="FOLDER", help="a Whisper that knows English")
