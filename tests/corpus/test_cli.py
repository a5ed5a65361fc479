"""The contract of the `corpus` command line: help, exit codes, one-line errors, JSON."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from corpus.catalogue import Catalogue
from corpus.cli import app
from corpus.workspace import CONFIG_NAME, Workspace
from demo.video_site import VideoSite

from .conftest import (
    PLAYLIST,
    SENTENCES,
    Corpus,
    fetch_arguments,
    write_fleurs,
    write_parquet,
    write_speech,
)

HEAVY = ("torch", "transformers", "gradio", "yt_dlp", "faster_whisper", "datasets", "deepspeed")
MODEL = Path(__file__).parents[2] / "demo" / "model"


def commands(command: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, such as ("import", "common-voice")."""
    command = command or typer.main.get_command(app)
    inside = getattr(command, "commands", None)
    if inside is None:
        yield path
    else:
        for name, each in inside.items():
            yield from commands(each, (*path, name))


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corpus", *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


class TestHelp:
    @pytest.mark.parametrize("words", list(commands()), ids=" ".join)
    def test_every_command_has_help_with_an_example(
        self, corpus: Corpus, words: tuple[str, ...]
    ) -> None:
        outcome = corpus(*words, "--help")
        assert outcome.code == 0
        assert f"Example: corpus {' '.join(words)}" in outcome.out
        assert "--json" in outcome.out
        assert "--debug" in outcome.out

    @pytest.mark.parametrize("words", sorted(set(commands()) - {("init",)}), ids=" ".join)
    def test_every_command_but_init_takes_a_workspace(
        self, corpus: Corpus, words: tuple[str, ...]
    ) -> None:
        assert "--workspace" in corpus(*words, "--help").out

    def test_the_program_names_all_its_commands(self, corpus: Corpus) -> None:
        outcome = corpus("--help")
        assert outcome.code == 0
        assert all(f"\n  {words[0]} " in outcome.out for words in commands())
        assert "Example:" in outcome.out

    def test_help_and_import_load_nothing_heavy(self) -> None:
        code = (
            "import sys, corpus.cli\n"
            "sys.argv = ['corpus', '--help']\n"
            "try:\n    corpus.cli.main()\n"
            "except SystemExit as end:\n    assert end.code == 0\n"
            "print(sorted(set(sys.modules) & set(sys.stdin.read().split())))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=" ".join(HEAVY),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["status", "--workspace", "nowhere"], "is no workspace; make one"),
            (
                ["fetch", "--workspace", "WORKSPACE"],
                "nothing to fetch; give URLs, --from-file or --search",
            ),
            (["fetch", "x", "--license", "any", "--workspace", "WORKSPACE"], "only cc can be"),
            (["fetch", "http://a.example", "--workspace", "WORKSPACE"], "is at no site that tells"),
            (["fetch", "--from-file", "gone", "--workspace", "WORKSPACE"], "cannot be read as"),
            (["fetch", "x", "--cookies", "gone", "--workspace", "WORKSPACE"], "holds no cookies"),
            (["fetch", "x", "--rate-limit", "5X", "--workspace", "WORKSPACE"], "'5X' is no rate"),
            (
                [
                    "fetch",
                    "x",
                    *("--min-duration", "9", "--max-duration", "5"),
                    "--workspace",
                    "WORKSPACE",
                ],
                "no video is 9 s to 5 s long",
            ),
            (["add", "gone.wav", "--workspace", "WORKSPACE"], "no such file or folder"),
            (["import", "common-voice", ".", "--workspace", "WORKSPACE"], "no Common Voice"),
            (["label", "--workspace", "WORKSPACE"], "which model? give --model"),
            (["label", "--model", "./x", "--workspace", "WORKSPACE"], "no such model folder"),
            (["verdict", "--preset", "mild", "--workspace", "WORKSPACE"], "no preset 'mild'"),
            (["build", "one", "--workspace", "WORKSPACE"], "no segment is kept"),
            (["build", "a/b", "--workspace", "WORKSPACE"], "is no name for a dataset"),
            (["build", "--tokenizer", "./x", "--workspace", "WORKSPACE"], "no tokenizer at"),
            (["fetch", "http://[::1", "--workspace", "WORKSPACE"], "is no address"),
            (["remove", "--workspace", "WORKSPACE"], "nothing to remove; give IDs, --channel"),
            (["remove", "youtube:x", "--workspace", "WORKSPACE"], "no recording youtube:x here"),
            (["show", "youtube:x", "--workspace", "WORKSPACE"], "nothing is known of youtube:x"),
            (
                ["report", "--html", "gone/a.html", "--workspace", "WORKSPACE"],
                "there is no folder gone",
            ),
            (["init", "WORKSPACE", "--language", "cs"], "is a workspace already"),
            (["init", "new", "--language", "Czech"], "is no language code"),
        ],
    )
    def test_what_the_user_can_put_right_is_one_line_and_exit_code_1(
        self,
        corpus: Corpus,
        workspace: Workspace,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        arguments: list[str],
        told: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = corpus(*(str(workspace.root) if a == "WORKSPACE" else a for a in arguments))
        assert outcome.code == 1
        assert outcome.out == ""
        (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert told in line
        assert outcome.err.endswith(f"{line}\n")
        assert "Traceback" not in outcome.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["nonsense"],
            ["init"],
            ["init", "x"],
            ["status", "--colour"],
            ["fetch", "--max-videos", "many"],
            ["segment", "--target-seconds", "31"],
            [],
        ],
        ids=" ".join,
    )
    def test_wrong_usage_is_exit_code_2(self, corpus: Corpus, arguments: list[str]) -> None:
        outcome = corpus(*arguments)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err

    def test_a_defect_is_one_line_too_and_tells_of_debug(
        self,
        corpus: Corpus,
        workspace: Workspace,
        catalogue: Catalogue,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("first line\nsecond line")

        monkeypatch.setattr("corpus.status.status", broken)
        outcome = corpus("status", "--workspace", workspace.root)
        assert outcome.code == 1
        assert outcome.err == (
            "error: RuntimeError: first line second line "
            "(run again with --debug for the traceback)\n"
        )

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        arguments = ["status", "--workspace", tmp_path]
        plain, debug = process(*arguments), process(*arguments, "--debug")
        assert plain.returncode == debug.returncode == 1
        assert "Traceback" not in plain.stderr
        assert "Traceback" in debug.stderr
        assert "is no workspace" in debug.stderr.splitlines()[-1]

    def test_a_catalogue_of_a_newer_version_is_told(
        self, corpus: Corpus, workspace: Workspace
    ) -> None:
        import sqlite3

        Catalogue(workspace.catalogue_url)
        with sqlite3.connect(workspace.root / "catalogue.sqlite") as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        outcome = corpus("status", "--workspace", workspace.root)
        assert (outcome.code, outcome.err.count("\n")) == (1, 1)
        assert "upgrade whisper-harvest" in outcome.err

    def test_an_interruption_says_how_to_go_on(self, workspace: Workspace, site: VideoSite) -> None:
        site.fail("/playlist", delay_s=20, times=None)
        running = subprocess.Popen(
            [sys.executable, "-m", "corpus", *map(str, fetch_arguments(site, workspace.root))],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
            # A suite that runs in the background has inherited that the signal is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while not site.requested("/playlist"):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130
        assert "the same command carries on where it stopped" in err.splitlines()[-1]
        assert "Traceback" not in err


class TestJson:
    def test_every_command_prints_exactly_one_document(
        self, corpus: Corpus, tmp_path: Path, site: VideoSite
    ) -> None:
        """`json.loads` refuses a second document, a progress bar or a table on stdout."""
        root = tmp_path / "workspace"
        write_speech(tmp_path / "own" / "a.wav", *SENTENCES, subtitles=True)
        release = tmp_path / "cv" / "en"
        write_speech(release / "clips" / "common_voice_en_1.mp3", SENTENCES[0])
        (release / "train.tsv").write_text(
            f"client_id\tpath\tsentence\tlocale\nx\tcommon_voice_en_1.mp3\t{SENTENCES[0]}\ten\n"
        )
        fleurs = write_fleurs(tmp_path / "en_us", {"train": [SENTENCES[1]]})
        audio = (release / "clips" / "common_voice_en_1.mp3").read_bytes()
        row = {"audio": {"bytes": audio, "path": None}, "text": SENTENCES[0]}
        parquet = write_parquet(tmp_path / "hub" / "train.parquet", [row])
        at = ("--workspace", root)
        arguments: dict[tuple[str, ...], list[object]] = {
            ("init",): [root, "--language", "en"],
            ("fetch",): [*fetch_arguments(site, root)[1:]],
            ("add",): [tmp_path / "own", *at],
            ("import", "common-voice"): [release, *at],
            ("import", "fleurs"): [fleurs, *at],
            ("import", "hf"): [parquet, "--license", "CC0-1.0", *at],
            ("segment",): [*at],
            ("label",): ["--model", MODEL, *at],
            ("verdict",): [*at],
            ("build",): ["main", *at],
            ("export",): ["main", "--to", "nemo", *at],
            ("status",): [*at],
            ("run",): [*at],
            ("show",): ["youtube:first000000", *at],
            ("report",): [*at],
            ("verify",): [*at],
            ("remove",): ["youtube:first000000", "--yes", *at],
        }
        if not MODEL.is_dir():
            del arguments["label",]
        documents = {}
        for words, rest in arguments.items():
            outcome = corpus(*words, *rest, "--json")
            assert outcome.code == 0, outcome.err
            documents[words] = json.loads(outcome.out)
        assert set(commands()) - {("label",)} <= set(arguments)
        assert documents["init",] == {"workspace": str(root), "language": "en"}
        assert documents["add",] == {"done": 1, "failed": 0}
        for source in ("common-voice", "fleurs", "hf"):
            assert documents["import", source] == {"done": 1, "failed": 0}
        assert documents["segment",] == {"done": 4, "failed": 0}
        assert documents["build",]["written"] is True
        assert documents["build",]["folder"] == str(root / "datasets" / "main")
        assert documents["status",]["recordings"] == 7
        assert documents["run",] == documents["status",]
        assert documents["show",]["recording"]["id"] == "youtube:first000000"
        assert documents["report",]["totals"]["recordings"] == 7
        assert documents["verify",] == {"problems": []}
        assert documents["remove",]["removed"] == ["youtube:first000000"]


class TestRun:
    def test_one_command_does_what_the_settings_ask_for_and_then_nothing_more(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        write_speech(workspace.root / "own" / "a.wav", *SENTENCES, subtitles=True)
        (workspace.root / CONFIG_NAME).write_text(
            f"""
language = "en"
[fetch]
urls = ["{PLAYLIST}"]
proxy = "{site.proxy_url}"
check_certificate = false
sleep = false
[sources]
add = ["own"]
[verdict]
preset = "lenient"
"""
        )
        at = ("--workspace", workspace.root)
        outcome = corpus("run", *at)
        assert outcome.code == 0, outcome.err
        assert (workspace.datasets / "main" / "manifest.json").is_file()
        before = json.loads(corpus("status", "--json", *at).out)
        assert before["recordings"] == 4
        assert before["unsegmented"] == 0
        site.requests.clear()
        outcome = corpus("run", *at)
        assert outcome.code == 0, outcome.err
        assert site.requested("/videoplayback") == 0
        assert f"{workspace.datasets / 'main'} was up to date" in outcome.out
        after = json.loads(corpus("status", "--json", *at).out)
        for failure in before["failures"]:
            failure["attempts"] += failure["retried"]
        assert after == before

    def test_new_recordings_are_judged_though_the_dataset_is_frozen(
        self, corpus: Corpus, workspace: Workspace
    ) -> None:
        write_speech(workspace.root / "own" / "a.wav", *SENTENCES, subtitles=True)
        (workspace.root / CONFIG_NAME).write_text(
            'language = "en"\n[sources]\nadd = ["own"]\n[verdict]\npreset = "lenient"\n'
        )
        at = ("--workspace", workspace.root)
        assert corpus("run", *at).code == 0
        frozen = (workspace.datasets / "main" / "manifest.json").read_bytes()
        write_speech(workspace.root / "own" / "b.wav", "zero one two three", subtitles=True)
        outcome = corpus("run", *at)
        assert outcome.code == 0, outcome.err
        assert "build under another name" in outcome.err
        assert (workspace.datasets / "main" / "manifest.json").read_bytes() == frozen
        assert json.loads(corpus("status", "--json", *at).out)["recordings"] == 2
