"""Work here, in worker processes and in Ray actors: the same outcomes, and no item lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corpus import engine
from corpus.audio import MediaError
from corpus.dataset import file_hashes
from corpus.engine import HERE, RAY, Workers, share_resources
from corpus.errors import ItemError, UserError
from corpus.workspace import Workspace

from .conftest import MODEL, SENTENCES, write_speech
from .test_kill import contents, copy_of, run, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, which a run then uses instead of starting one."""
    ray = pytest.importorskip("ray", reason="Ray is absent")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=["here", "processes", "ray"])
def workers(request: pytest.FixtureRequest) -> Workers:
    """Each of the engines, with two workers where it has any."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return Workers(RAY, 2)
    return HERE if request.param == "here" else Workers(count=2)


@pytest.fixture(params=["processes", "ray"])
def others(request: pytest.FixtureRequest) -> Workers:
    """The engines that work in other processes."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return Workers(RAY, 2)
    return Workers(count=2)


class Ledger:
    """What a stage writes: every outcome, as often as it comes."""

    def __init__(self) -> None:
        self.saved: list[tuple[int, Any]] = []
        self.failed: dict[int, ItemError] = {}

    def save(self, item: int, result: Any) -> None:
        self.saved.append((item, result))

    def fail(self, item: int, error: ItemError) -> None:
        assert item not in self.failed
        self.failed[item] = error

    def run(self, items: Any, work: Callable[[int], Any], workers: Workers, **more: Any) -> Any:
        return engine.run(
            items, work, self.save, self.fail, desc="t", unit="item", workers=workers, **more
        )

    def run_batches(self, items: Any, work: Any, workers: Workers, size: int) -> Any:
        found = engine.outcomes(engine.batches(items, size), work, workers=workers)
        return engine.save_batches(found, self.save_all, total=len(items), desc="t", unit="item")

    def save_all(self, items: list[int], results: list[Any]) -> None:
        for item, result in zip(items, results, strict=True):
            if isinstance(result, ItemError):
                self.fail(item, result)
            else:
                self.save(item, result)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def square(item: int) -> int:
    if item % 10 == 7:
        raise MediaError(f"{item} is broken")
    return item * item


def divide(item: int) -> float:
    return 1 / item


class Odd(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, one: int, *, other: int) -> None:
        super().__init__(f"{one} and {other}")


def odd(item: int) -> int:
    raise Odd(item, other=2)


@dataclass(frozen=True)
class Roots:
    """Work on batches that has something to load and may kill its worker."""

    folder: Path
    deadly: tuple[int, ...] = ()
    deaths: int = 1_000
    loads: bool = True

    def __call__(self, items: list[int]) -> list[int | ItemError]:
        if not items and not self.loads:
            raise UserError("the model cannot be loaded")
        for item in items:
            with open(self.folder / f"{item}", "a") as log:
                log.write(f"{len(items)}\n")
        if set(items) & set(self.deadly) and len(self.tries(*self.deadly)) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return [ItemError("negative") if item < 0 else item * item for item in items]

    def tries(self, *items: int) -> list[int]:
        """The size of the batch, for each time that one of these items was tried."""
        found = [self.folder / f"{item}" for item in items]
        return [int(n) for path in found if path.exists() for n in path.read_text().split()]


class TestEveryEngine:
    def test_every_item_is_saved_once_and_one_items_failure_is_its_own(
        self, workers: Workers, ledger: Ledger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        counts = ledger.run(range(100), square, workers)
        assert counts == engine.Counts(90, 10)
        assert sorted(ledger.saved) == [(n, n * n) for n in range(100) if n % 10 != 7]
        assert sorted(ledger.failed) == list(range(7, 100, 10))
        assert isinstance(ledger.failed[17], MediaError)
        assert str(ledger.failed[17]) == "17 is broken"
        assert capsys.readouterr().err.count("is broken") == engine.REASONS_SHOWN

    def test_batches_are_as_large_as_was_asked_and_their_outcomes_each_items_own(
        self, workers: Workers, ledger: Ledger, tmp_path: Path
    ) -> None:
        counts = ledger.run_batches(range(-1, 20), Roots(tmp_path), workers, 8)
        assert counts == engine.Counts(20, 1)
        assert sorted(ledger.saved) == [(n, n * n) for n in range(20)]
        assert Counter(Roots(tmp_path).tries(*range(-1, 20))) == {8: 16, 5: 5}

    def test_what_is_no_items_fault_ends_the_run_as_what_it_is(
        self, workers: Workers, ledger: Ledger
    ) -> None:
        with pytest.raises(ZeroDivisionError) as found:
            ledger.run([1, 1, 1, 0, 1], divide, workers)
        told = "".join(getattr(found.value, "__notes__", []))
        assert workers == HERE or "in divide\n    return 1 / item" in told

    def test_what_cannot_be_loaded_is_told_before_an_item_is_tried(
        self, workers: Workers, ledger: Ledger, tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="the model cannot be loaded"):
            ledger.run_batches(range(9), Roots(tmp_path, loads=False), workers, 4)
        assert Roots(tmp_path).tries(*range(9)) == []

    def test_it_ends_in_peace_when_it_is_enough(self, workers: Workers, ledger: Ledger) -> None:
        counts = ledger.run(range(6), abs, workers, enough=lambda: len(ledger.saved) >= 2)
        # What was begun is saved.
        assert 2 <= counts.done <= 2 + 2 * (workers.count or 0)

    def test_items_are_made_as_they_are_wanted(self, workers: Workers, ledger: Ledger) -> None:
        ahead = []

        def items() -> Iterator[int]:
            for item in range(30):
                ahead.append(item - len(ledger.saved))
                yield item

        ledger.run(items(), abs, workers, total=30)
        assert len(ledger.saved) == 30
        assert max(ahead) <= 2 * (workers.count or 0)

    def test_nothing_to_do_starts_nothing(self, ledger: Ledger) -> None:
        assert ledger.run([], square, Workers("none")) == engine.Counts(0, 0)


class TestOtherProcesses:
    def test_an_exception_that_cannot_travel_is_told_all_the_same(
        self, others: Workers, ledger: Ledger
    ) -> None:
        with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
            ledger.run([1], odd, others)

    def test_the_items_of_a_dead_worker_are_done_by_another(
        self, others: Workers, ledger: Ledger, tmp_path: Path
    ) -> None:
        work = Roots(tmp_path, deadly=(5,), deaths=2)
        assert ledger.run_batches(range(20), work, others, 4) == engine.Counts(20, 0)
        assert sorted(ledger.saved) == [(n, n * n) for n in range(20)]
        assert work.tries(5) == [4, 4, 4]
        assert work.tries(0) == [4]

    def test_an_item_that_kills_every_worker_fails_alone(
        self, others: Workers, ledger: Ledger, tmp_path: Path
    ) -> None:
        work = Roots(tmp_path, deadly=(5,))
        assert ledger.run_batches(range(12), work, others, 4) == engine.Counts(11, 1)
        assert sorted(ledger.saved) == [(n, n * n) for n in range(12) if n != 5]
        assert str(ledger.failed[5]).startswith("3 workers died on it")
        assert work.tries(5) == [4, 4, 4, 1, 1, 1]

    def test_workers_that_cannot_begin_end_the_run(self, others: Workers, ledger: Ledger) -> None:
        with pytest.raises(UserError, match="3 workers died before they could begin"):
            ledger.run_batches(range(9), die, others, 4)
        assert ledger.saved == []

    def test_there_are_as_many_as_were_asked_for_and_can_be_of_use(
        self, others: Workers, ledger: Ledger
    ) -> None:
        ledger.run(range(30), process_id, others)
        assert len({pid for _, pid in ledger.saved}) == 2
        assert os.getpid() not in {pid for _, pid in ledger.saved}
        few = Ledger()
        few.run([1], process_id, others)
        assert len(few.saved) == 1

    def test_none_are_left_when_saving_fails(self, ledger: Ledger) -> None:
        def save(item: int, result: int) -> None:
            raise OSError("no space left on device")

        with pytest.raises(OSError, match="no space"):
            engine.run(
                *(range(9), square, save, ledger.fail),
                desc="t",
                unit="item",
                workers=Workers(count=2),
            )
        assert multiprocessing.active_children() == []


def die(items: list[int]) -> list[int | ItemError]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def process_id(item: int) -> int:
    time.sleep(0.1)
    return os.getpid()


class TestWhatIsToldAtOnce:
    def test_an_engine_that_there_is_not(self, ledger: Ledger) -> None:
        with pytest.raises(UserError, match="no engine 'spark'; there are: local, ray"):
            ledger.run([1], square, Workers("spark"))

    def test_a_number_of_workers_that_is_none(self, ledger: Ledger) -> None:
        with pytest.raises(UserError, match="0 workers do no work"):
            ledger.run([1], square, Workers(count=0))

    def test_that_ray_is_not_installed(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(UserError, match=r"install whisper-harvest\[ray\]"):
            ledger.run([1], square, Workers(RAY))


class TestResources:
    """How a cluster is shared out."""

    def test_an_actor_has_a_cpu(self) -> None:
        assert share_resources({"CPU": 16.0}, None, 100, False) == (16, {"num_cpus": 1})
        assert share_resources({"CPU": 16.0}, 4, 100, False) == (4, {"num_cpus": 1})

    def test_and_a_gpu_if_the_work_can_use_one(self) -> None:
        there = {"CPU": 16.0, "GPU": 2.0}
        assert share_resources(there, None, 100, True) == (2, {"num_cpus": 1, "num_gpus": 1})
        assert share_resources(there, None, 100, False) == (16, {"num_cpus": 1})
        assert share_resources({"CPU": 16.0}, None, 100, True) == (16, {"num_cpus": 1})

    def test_more_actors_than_gpus_share_them(self) -> None:
        there = {"CPU": 16.0, "GPU": 2.0}
        assert share_resources(there, 4, 100, True) == (4, {"num_cpus": 1, "num_gpus": 0.5})
        count, needs = share_resources(there, 3, 100, True)
        assert count * needs["num_gpus"] <= 2.0

    def test_none_is_there_for_nothing(self) -> None:
        assert share_resources({"CPU": 16.0}, None, 3, False)[0] == 3

    def test_more_than_there_are_cpus_would_wait_for_ever(self) -> None:
        with pytest.raises(UserError, match="the Ray cluster has 2 CPUs"):
            share_resources({"CPU": 2.0}, 3, 100, False)


@dataclass(frozen=True)
class Endless:
    """Work that tells its process and never ends."""

    folder: Path

    def __call__(self, item: int) -> None:
        (self.folder / str(os.getpid())).touch()
        time.sleep(3600)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(ending: int, tmp_path: Path) -> None:
    code = (
        "import signal, sys; from pathlib import Path; from corpus import engine; "
        # A shell that starts the tests in the background leaves SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tests.corpus.test_engine import Endless; "
        "engine.run([1, 2], Endless(Path(sys.argv[1])), print, print, desc='', unit='', "
        "workers=engine.Workers(count=2))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert all(blocks_interrupts(pid) for pid in pids)
    os.killpg(process.pid, ending) if ending == signal.SIGINT else process.kill()
    _, told = process.communicate(timeout=30)
    assert process.returncode == -ending
    assert told.count("Traceback") == (ending == signal.SIGINT)  # only that of the caller
    wait_for(lambda: not any(runs(pid) for pid in pids))


def blocks_interrupts(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # of a zombie it is empty
    except OSError:
        return False


SPOKEN = [(*SENTENCES, "call number five"), (*reversed(SENTENCES), "the red boat is here")]


@pytest.fixture
def talks(workspace: Workspace) -> Workspace:
    """Talks without subtitles, so that pauses are looked for, and a file that cannot be read."""
    for voice in range(4):
        write_speech(workspace.root.parent / f"talk{voice}.wav", *SPOKEN[voice % 2], voice=voice)
    files = sorted(workspace.root.parent.glob("*.wav"))
    run("add", *files, "--workspace", workspace.root)
    broken = next((workspace.media / "files").glob("*.flac"))
    broken.write_bytes(b"no audio")
    return workspace


@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, is absent")
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_corpus_is_the_same_whoever_does_the_work(
    engine: str, talks: Workspace, converted: Path, tmp_path: Path
) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is absent")
    other = copy_of(talks, tmp_path / "other")
    for space, options in ((talks, []), (other, ["--engine", engine, "--workers", "2"])):
        at = ("--workspace", space.root)
        run("segment", "--target-seconds", "3", *options, *at)
        run("label", "--model", converted, "--batch-size", "2", *options, *at)
        run("verdict", "--preset", "lenient", *at)
        run("build", "one", *options, *at)
    one, same = contents(talks), contents(other)
    for row in one["verdicts"] + same["verdicts"]:
        row.pop("transcript_id")  # they are numbered as they come
    assert same == one
    assert len(same["transcripts"]) >= 6
    assert [row["kind"] for row in same["failures"]] == ["bad_media"]
    assert file_hashes(other.datasets / "one") == file_hashes(talks.datasets / "one")
