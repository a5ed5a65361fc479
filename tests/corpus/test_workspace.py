"""A workspace's settings, its place and its locks."""

import subprocess
import sys
from pathlib import Path

import pytest

from corpus.catalogue import Catalogue
from corpus.errors import UserError
from corpus.workspace import CONFIG_NAME, Workspace, init_workspace, open_workspace


def settings(workspace: Workspace, text: str) -> Workspace:
    (workspace.root / CONFIG_NAME).write_text(text, encoding="utf-8")
    return open_workspace(workspace.root)


def test_a_new_workspace_has_the_settings_that_its_file_shows(workspace: Workspace) -> None:
    assert workspace.config.language == "en"
    assert settings(workspace, 'language = "en"').config == workspace.config


def test_every_section_of_the_settings_stands_in_a_new_file(workspace: Workspace) -> None:
    text = (workspace.root / CONFIG_NAME).read_text(encoding="utf-8")
    for name in ("fetch", "sources", "segment", "label", "verdict", "build"):
        assert f"[{name}]" in text


def test_settings_are_read(workspace: Workspace) -> None:
    text = 'language = "cs"\n[build]\ndev_hours = 2\n[fetch]\nsearch = ["a", "b"]\nsleep = false\n'
    config = settings(workspace, text).config
    assert (config.language, config.build.dev_hours) == ("cs", 2)
    assert (config.fetch.search, config.fetch.sleep) == (["a", "b"], False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'language = "en"\nlangage = "cs"',
            "unknown setting langage; known here: build, catalogue",
        ),
        ('language = "en"\n[build]\nhours = 1', r"unknown setting \[build\] hours; .*dev_hours"),
        ('language = "en"\n[fetch]\nurls = "x"', r"\[fetch\] urls = 'x' is no list"),
        ('language = "en"\n[fetch]\nurls = [1]', r"\[fetch\] urls = \[1\] is no list"),
        ('language = "en"\n[build]\ndev_hours = "1"', r"\[build\] dev_hours = '1' is no float"),
        ('language = "en"\n[fetch]\nmax_videos = true', r"\[fetch\] max_videos = True is no int"),
        ('language = "en"\nbuild = 3', r"build is a section; write \[build\]"),
        ("language = 3", "give the language"),
        ("[fetch]\nurls = []", "give the language"),
        ('language = "en', "not valid TOML"),
    ],
)
def test_a_mistake_in_the_settings_is_told_by_name(
    workspace: Workspace, text: str, told: str
) -> None:
    with pytest.raises(UserError, match=told) as error:
        settings(workspace, text)
    assert str(error.value).startswith(str(workspace.root / CONFIG_NAME))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["what?", "100%20", "a#b", "č"])
def test_its_catalogue_lies_in_it_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    workspace = init_workspace(tmp_path / name, "cs")
    Catalogue(workspace.catalogue_url)
    assert (tmp_path / name / "catalogue.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_settings_may_begin_with_a_byte_order_mark(workspace: Workspace) -> None:
    file = workspace.root / CONFIG_NAME
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert open_workspace(workspace.root).config == workspace.config


def test_settings_in_another_encoding_are_told(workspace: Workspace) -> None:
    (workspace.root / CONFIG_NAME).write_bytes('language = "č"'.encode("cp1250"))
    with pytest.raises(UserError, match="not valid TOML"):
        open_workspace(workspace.root)


def test_the_workspace_around_the_current_folder_is_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = workspace.root / "media" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert open_workspace().root == workspace.root


def test_where_there_is_none_the_command_that_makes_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"corpus init DIR --language CODE"):
        open_workspace()
    with pytest.raises(UserError, match=r"corpus init .*nowhere --language CODE"):
        open_workspace(tmp_path / "nowhere")


def test_a_workspace_is_not_made_twice(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="is a workspace already"):
        init_workspace(workspace.root, "cs")
    assert open_workspace(workspace.root).config.language == "en"


@pytest.mark.parametrize("code", ["czech language", "c", "", '"', "../x"])
def test_what_is_no_language_code_is_refused(tmp_path: Path, code: str) -> None:
    with pytest.raises(UserError, match="no language code"):
        init_workspace(tmp_path / "new", code)
    assert not (tmp_path / "new").exists()


def test_a_workspace_where_a_file_is_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        init_workspace(tmp_path / "file", "cs")


HOLDER = """
import sys
from pathlib import Path
from corpus.workspace import open_workspace
with open_workspace(Path(sys.argv[1])).lock("media"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_against_other_processes_and_dies_with_its_own(
    workspace: Workspace,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=r"another command is writing media in .*; wait until"),
            workspace.lock("media"),
        ):
            pass
        with workspace.lock("segments"):
            pass
        holder.kill()
        holder.wait()
        with workspace.lock("media"):
            pass
