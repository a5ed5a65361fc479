"""Benchmarks: they are listed, run from the command line, and their peers do what they say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import find_benchmarks, main, summary
from benchmarks.decoding import write_talk
from benchmarks.packing import next_fit, sample_durations
from benchmarks.review import CHROMIUM
from corpus.audio import decode
from corpus.pack import Piece

REPOSITORY = Path(__file__).parents[2]


def test_without_a_name_every_benchmark_is_listed_with_a_line(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(find_benchmarks()) >= 1
    for line, (name, benchmark) in zip(lines, find_benchmarks().items(), strict=True):
        assert line.split(maxsplit=1) == [name, summary(benchmark)]


def test_the_readme_tells_of_every_benchmark():
    readme = (REPOSITORY / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for name in find_benchmarks():
        assert f"## {name}\n" in readme


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "packing" in done.stdout


@pytest.fixture
def durations(tmp_path):
    path = tmp_path / "seconds.txt"
    path.write_text("\n".join(f"{seconds:.3f}" for seconds in sample_durations(3000)))
    return path


def figures(capsys, durations):
    assert main(["packing", "--durations", str(durations), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {(figure["name"], figure["beside"]): figure for figure in found}


def test_packing_reports_itself_beside_the_peers_and_the_limit(capsys, durations):
    found = figures(capsys, durations)
    limit = found["windows", "limit of 3,000 clips"]
    assert 1.0 <= limit["ratio"] < 1.05
    for peer in "next-fit, batches of 64", "next-fit, batches of 500":
        assert found["fill", peer]["ratio"] > 1.05
        assert found["windows", peer]["value"] == limit["value"]
        assert found["windows", peer]["ratio"] == pytest.approx(1 / found["fill", peer]["ratio"])
        assert found["planning", peer]["value"] > 0


def test_packing_prints_a_table_for_people(capsys, durations):
    assert main(["packing", "--durations", str(durations)]) == 0
    assert "next-fit, batches of 64" in capsys.readouterr().out


def test_status_is_timed_on_a_catalogue_of_the_size_asked_for(capsys):
    assert main(["status", "--recordings", "40", "--segments", "2", "--json"]) == 0
    plain, machine = json.loads(capsys.readouterr().out)
    assert plain["name"] == "status of 40 recordings"
    assert machine["name"] == "status of 40 recordings --json"
    assert all(figure["value"] > 0 and figure["beside_value"] == 2.0 for figure in (plain, machine))


def test_importing_is_timed_on_a_release_of_the_size_asked_for(capsys):
    assert main(["importing", "--clips", "40", "--json"]) == 0
    first, peer, again = json.loads(capsys.readouterr().out)
    assert first["name"] == peer["name"] == "import of 40 clips"
    assert again["name"] == "import of 40 clips, a second time"
    assert (first["beside_value"], peer["beside"]) == (5.0, "pandas, reading only")
    assert first["value"] == peer["value"] > 0


def test_the_report_is_timed_with_and_without_scores(capsys):
    assert main(["report", "--segments", "30", "--json"]) == 0
    scored, computed = json.loads(capsys.readouterr().out)
    assert scored["name"] == "report of 30 segments, CER in the scores"
    assert computed["name"] == "report of 30 segments, CER to be computed"
    assert all(figure["value"] > 0 for figure in (scored, computed))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1.5\nlong\n", "line 2: 'long'"),
        ("31\n", "line 1: '31'"),
        ("nan", "'nan'"),
        ("", "no line"),
    ],
)
def test_a_file_that_holds_no_durations_is_told_in_a_line(tmp_path, capsys, content, words):
    path = tmp_path / "seconds.txt"
    path.write_text(content)
    assert main(["packing", "--durations", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_decoding_reports_itself_beside_goal_limit_and_peers(capsys):
    assert main(["decoding", "--minutes", "0.5", "--json"]) == 0
    found = {(f["name"], f["beside"]): f for f in json.loads(capsys.readouterr().out)}
    assert found["peak memory", "limit"]["ratio"] < 1
    peers = {"ffmpeg", "pydub"} if shutil.which("ffmpeg") else set()
    assert {beside for name, beside in found if name == "speed"} == {"goal", *peers}
    assert all(figure["ratio"] > 0 for figure in found.values())


def test_scoring_reports_pairs_and_verdicts_beside_what_is_wanted(capsys):
    assert main(["scoring", "--segments", "40", "--json"]) == 0
    found = {(f["name"], f["beside"]): f for f in json.loads(capsys.readouterr().out)}
    assert found["comparing a usual pair", "wanted"]["ratio"] > 0
    assert found["comparing the worst pair", "wanted"]["ratio"] > 0
    steps = {name for (name, _), figure in found.items() if figure["unit"] == "µs a segment"}
    assert {"the first verdicts, with their scores", "what if it were strict", "strict"} <= steps


def test_the_talk_to_be_decoded_has_the_length_asked_for(tmp_path):
    write_talk(tmp_path / "talk.webm", 2.5)
    assert len(decode(tmp_path / "talk.webm")) / 16_000 == pytest.approx(2.5, abs=0.05)


def test_next_fit_closes_a_window_when_full_and_at_the_end_of_a_batch():
    pieces = [Piece(str(i), seconds, 0, "") for i, seconds in enumerate([20, 10, 1, 5, 5])]
    lengths = [[piece.seconds for piece in window] for window in next_fit(pieces, batch=4)]
    assert lengths == [[20, 10], [1, 5], [5]]


def test_labelling_sets_one_pass_beside_several(capsys):
    options = ["--clips", "4", "--batch-size", "2", "--repeats", "1"]
    assert main(["labelling", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ratios = {(figure["name"], figure["beside"]): figure["ratio"] for figure in found}
    assert ratios["one pass", "generate, then align"] > 0
    assert ratios["label", "faster-whisper, the same asked of it"] > 0


def test_planning_reports_time_and_memory_of_each_size(capsys):
    assert main(["planning", "--segments", "300", "600", "--json"]) == 0
    found = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)}
    assert found.keys() == {
        f"{what} of {size} segments" for what in ("planning", "peak memory") for size in (300, 600)
    }
    assert found["peak memory of 600 segments"]["ratio"] < 1


def test_building_reports_itself_beside_bare_work_and_two_workers(capsys):
    assert main(["building", "--minutes", "0.5", "--json"]) == 0
    found = {figure["name"].strip(): figure for figure in json.loads(capsys.readouterr().out)}
    assert found.keys() == {"speed, CPU", "of bare speed", "two workers, time", "peak memory"}
    assert all(figure["value"] > 0 for figure in found.values())


@pytest.mark.slow  # it makes ten minutes of sound eight times, and waits as people do
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no browser: install the package chromium")
def test_reviewing_is_timed_with_others_at_work_and_beside_gradio(capsys):
    few = ["--segments", "300", "--clients", "2", "--decisions", "2", "--visits", "1"]
    assert main(["review", *few, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {figure["beside"] for figure in found} >= {"limit", "Gradio, p50", "Gradio, p95"}
    assert all(figure["value"] > 0 and figure["beside_value"] > 0 for figure in found)


@pytest.mark.slow
def test_equal_time_gives_both_recipes_the_same_and_measures_them_alike(
    tmp_path, shared_data, capsys
):
    for take in (0, 5, 10, 11, 12, 13):
        for path in sorted((shared_data / "speech" / "fsdd").glob(f"[0-9]_*_{take}.wav"))[::5]:
            (tmp_path / path.name).symlink_to(path)
    assert main(["equal-time", str(tmp_path), "--seconds", "5", "--batch-size", "2", "--json"]) == 0
    *curve, time = json.loads(capsys.readouterr().out)
    assert [figure["name"] for figure in curve] == [
        f"WER after {share} % of the time" for share in (0, 20, 40, 60, 80, 100)
    ]
    assert curve[0]["value"] == curve[0]["beside_value"] > 0
    assert time["value"] > 0 < time["beside_value"]
