"""How the work of a stage is run: item by item, one commit each, one item's failure its own.

A stage gives a function of its items and two that write the outcome. The function runs here, in
worker processes, or in Ray actors on any number of machines; what it returns comes back and is
saved by this process. So there is one writer whatever the engine, a worker needs no catalogue, and
one that dies (kill -9, out of memory, a lost machine) costs time only: its items are done again.

What that asks of a stage: outside this process the function, items and results are pickled.
"""

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice, takewhile
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

from corpus import console
from corpus.errors import ItemError, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

REASONS_SHOWN = 10
"""Failures that are told at the end; all of them stay in the catalogue."""

DEATHS = 3
"""Workers that may die on the same items: then a batch is taken apart, and a single item fails."""

LOCAL, RAY = ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Counts:
    """How a stage went."""

    done: int
    failed: int


@dataclass(frozen=True)
class Workers:
    """Where work is done.

    `engine` is ``local``, this machine, or ``ray``: the cluster at the address in ``RAY_ADDRESS``,
    or one that is started here for as long as the work takes. `count` is the number of processes
    or actors; without it ``local`` is this process itself, and ``ray`` has an actor for each GPU
    of the cluster if the work can use one, else for each CPU.
    """

    engine: str = LOCAL
    count: int | None = None


HERE = Workers()


def run(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    save: Callable[[Item, Result], None],
    fail: Callable[[Item, ItemError], None],
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    enough: Callable[[], bool] = lambda: False,
    workers: Workers = HERE,
) -> Counts:
    """Do `work` on every item and `save` it at once; an `ItemError` goes to `fail`, and on it goes.

    Items are taken one by one as workers become free, and what is done first is saved first;
    `total` is their number, where they are no sequence. `enough` is asked before each item and ends
    the run in peace. Any other exception is no property of the item (a full disk, a defect) and
    ends it too.

    Raises:
        UserError: workers die before they have begun, or there is no such engine.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    wanted = takewhile(lambda _: not enough(), items)

    def store(batch: list[Item], found: list[Result | ItemError]) -> None:
        for item, outcome in zip(batch, found, strict=True):
            if isinstance(outcome, ItemError):
                fail(item, outcome)
            else:
                save(item, outcome)

    found = outcomes(([item] for item in wanted), Each(work), most=total, workers=workers)
    return save_batches(found, store, total=total, desc=desc, unit=unit)


def save_batches(
    found: Generator[tuple[list[Item], list[Result | ItemError]], None, None],
    save: Callable[[list[Item], list[Result | ItemError]], None],
    *,
    total: int | None,
    desc: str,
    unit: str,
) -> Counts:
    """Save each batch of `outcomes` as it comes, with a progress bar over the `total` of items.

    Failures are told at the end.
    """
    done = 0
    reasons: list[str] = []

    def saved() -> Iterator[Result | ItemError]:
        for batch, results in found:
            save(batch, results)
            yield from results

    with contextlib.closing(found):
        for outcome in console.progress(saved(), total=total, desc=desc, unit=unit):
            if isinstance(outcome, ItemError):
                reasons.append(str(outcome))
            else:
                done += 1
    for reason in reasons[:REASONS_SHOWN]:
        console.say(f"  {reason}")
    if len(reasons) > REASONS_SHOWN:
        console.say(f"  and {len(reasons) - REASONS_SHOWN} more")
    return Counts(done, len(reasons))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


class Each(Generic[Item, Result]):
    """Work on one item, as work on a batch."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self.work = work

    def __call__(self, items: list[Item]) -> list[Result | ItemError]:
        return [self._outcome(item) for item in items]

    def _outcome(self, item: Item) -> Result | ItemError:
        try:
            return self.work(item)
        except ItemError as error:
            return error


def outcomes(
    todo: Iterable[list[Item]],
    work: Callable[[list[Item]], list[Result | ItemError]],
    *,
    most: int | None = None,
    workers: Workers = HERE,
    gpu: bool = False,
) -> Generator[tuple[list[Item], list[Result | ItemError]], None, None]:
    """Batches with what became of each of their items, in the order in which it becomes known.

    A batch is taken when a worker is free, so that no more is in memory than one for each worker
    and the results of one. It may come back in parts, when workers have died on it.

    Args:
        todo: batches of items.
        work: gives an outcome for each item of a batch. In every worker it is called with an empty
            list first: what it has to load is loaded then, so that an error in that is told before
            an item is tried.
        most: workers that can be of use: the number of batches, where it is known.
        gpu: whether the work runs on a GPU where there is one.

    Raises:
        UserError: workers die before they have begun, or there is no such engine.
    """
    if workers == HERE:
        work([])
        for batch in todo:
            yield batch, work(batch)
        return
    with contextlib.closing(_open_pool(workers, pickle.dumps(work), most, gpu)) as pool:
        found: Iterator[tuple[list[Item], list[Result | ItemError]]] = _spread(pool, iter(todo))
        yield from found


# What follows is work in other processes. A worker is told in bytes and answers in bytes, so that
# whatever cannot be pickled or loaded is an error that is told, and silence can only mean death.


class _Worker:
    """The work, in a worker."""

    def __init__(self, work: bytes) -> None:
        self.pickled = work
        self.work: Callable[[list[Any]], list[Any]] | None = None

    def answer(self, batch: bytes) -> bytes:
        """The outcomes of a batch, or the exception that ended it; pickled, as the batch is."""
        try:
            if self.work is None:
                self.work = pickle.loads(self.pickled)
            return pickle.dumps(self.work(pickle.loads(batch)))
        except Exception as error:
            return pickle.dumps(_portable(error))


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note, which survives pickling as the traceback does not."""
    told = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker:\n{told}")
    return error


class _Pool(Protocol):
    """Workers in numbered slots."""

    count: int

    def start(self, slot: int) -> None:
        """A fresh worker, in place of the one that was there."""

    def give(self, slot: int, batch: bytes) -> None:
        """Work for a worker that has none."""

    def take(self, slots: Collection[int]) -> tuple[int, bytes | None]:
        """The next answer from one of these; None when that worker is dead."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""


@dataclass
class _Job(Generic[Item]):
    items: list[Item]
    deaths: int = 0
    """How many workers have died on it."""


def _spread(
    pool: _Pool, todo: Iterator[list[Item]]
) -> Iterator[tuple[list[Item], list[Result | ItemError]]]:
    """Give batches to workers as they become free, and again when one dies."""
    again: deque[_Job[Item]] = deque()
    busy: dict[int, _Job[Item]] = {}
    idle: list[int] = []

    def begin(slot: int, job: _Job[Item]) -> None:
        busy[slot] = job
        pool.give(slot, pickle.dumps(job.items))

    for slot in range(pool.count):
        pool.start(slot)
        begin(slot, _Job([]))
    while busy:
        slot, answer = pool.take(busy)
        job = busy.pop(slot)
        found: list[Result | ItemError] | None = None
        if answer is not None:
            told = pickle.loads(answer)
            if isinstance(told, Exception):
                raise told
            found = told
            idle.append(slot)
        else:
            job.deaths += 1
            if not job.items and job.deaths == DEATHS:
                raise UserError(
                    f"{DEATHS} workers died before they could begin; give them more memory, or "
                    "take fewer"
                )
            pool.start(slot)
            begin(slot, _Job([]) if job.items else job)
            if job.items and job.deaths < DEATHS:
                again.append(job)
            elif len(job.items) == 1:
                found = [ItemError(f"{DEATHS} workers died on it, perhaps for want of memory")]
            else:  # which of them it is will show
                again.extend(_Job([item]) for item in job.items)
        # The workers go on while this batch is being saved.
        while idle and (job_ahead := again.popleft() if again else _next(todo)):
            begin(idle.pop(), job_ahead)
        if found:  # nothing comes of getting ready
            yield job.items, found


def _next(todo: Iterator[list[Item]]) -> _Job[Item] | None:
    return next((_Job(batch) for batch in todo), None)


def _open_pool(workers: Workers, work: bytes, most: int | None, gpu: bool) -> _Pool:
    """As many workers as are asked for and can be of use."""
    if workers.engine not in ENGINES:
        raise UserError(f"no engine {workers.engine!r}; there are: {', '.join(ENGINES)}")
    if workers.count is not None and workers.count < 1:
        raise UserError(f"{workers.count} workers do no work; give 1 or more")
    if workers.engine == RAY:
        return _Actors(work, workers.count, most, gpu)
    wanted = workers.count or 1
    return _Processes(work, min(wanted, most or wanted))


class _Processes:
    """Worker processes of this machine, each at the other end of a pipe.

    Not `concurrent.futures`: there, one death breaks the whole pool without telling whose work it
    was, and when this process is killed its workers wait for ever. A pipe tells both ends.
    """

    def __init__(self, work: bytes, count: int) -> None:
        self.work = work
        self.count = count
        # Models and their threads do not survive a fork.
        self.context = multiprocessing.get_context("spawn")
        self.workers: dict[int, tuple[BaseProcess, connection.Connection[bytes, bytes]]] = {}

    def start(self, slot: int) -> None:
        self._end(slot)
        ours, theirs = self.context.Pipe()
        threads = max(1, len(os.sched_getaffinity(0)) // self.count)
        process = self.context.Process(
            target=_serve, args=(theirs, self.work, threads), daemon=True
        )
        # Ctrl-C is for this process, which ends the others; they inherit the mask. Python's tracker
        # of resources lifts it where it is started in between, so it is started first.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.workers[slot] = process, ours

    def give(self, slot: int, batch: bytes) -> None:
        with contextlib.suppress(OSError):  # it is dead: `take` tells
            self.workers[slot][1].send_bytes(batch)

    def take(self, slots: Collection[int]) -> tuple[int, bytes | None]:
        ready = connection.wait([self.workers[slot][1] for slot in slots])
        slot = next(slot for slot in slots if self.workers[slot][1] in ready)
        try:
            return slot, self.workers[slot][1].recv_bytes()
        except (EOFError, OSError):
            return slot, None

    def close(self) -> None:
        for slot in list(self.workers):
            self._end(slot)

    def _end(self, slot: int) -> None:
        if slot in self.workers:
            process, pipe = self.workers.pop(slot)
            pipe.close()
            process.kill()
            process.join()


def _serve(pipe: "connection.Connection[bytes, bytes]", work: bytes, threads: int) -> None:
    """A worker process: answer batches until the other end is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    worker = _Worker(work)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(worker.answer(pipe.recv_bytes()))


def _end_with_parent() -> None:
    """Leave nothing running, and no GPU taken, where the parent was killed in the midst of work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Actors:
    """Actors of a Ray cluster, each with the work loaded once."""

    def __init__(self, work: bytes, count: int | None, most: int | None, gpu: bool) -> None:
        self.ray = _import_ray()
        self.work = work
        self.actors: dict[int, Any] = {}
        self.answers: dict[int, Any] = {}
        self.started = not self.ray.is_initialized()
        if self.started:
            self._connect(count)
        there = self.ray.cluster_resources()
        self.count, self.needs = share_resources(there, count, most, gpu)

    def _connect(self, count: int | None) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS", "local")
        cpus = max(count or 1, len(os.sched_getaffinity(0)))
        try:
            self.ray.init(
                address,
                **({"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}),
                log_to_driver=False,  # stdout is for data
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"no Ray cluster at {address} ({reason}); see RAY_ADDRESS") from error

    def start(self, slot: int) -> None:
        self._end(slot)
        self.actors[slot] = self.ray.remote(**self.needs)(_Worker).remote(self.work)

    def give(self, slot: int, batch: bytes) -> None:
        self.answers[slot] = self.actors[slot].answer.remote(batch)

    def take(self, slots: Collection[int]) -> tuple[int, bytes | None]:
        answers = {self.answers[slot]: slot for slot in slots}
        (answer,), _ = self.ray.wait(list(answers), num_returns=1)
        try:
            return answers[answer], self.ray.get(answer)
        except self.ray.exceptions.RayActorError as error:
            if error.actor_init_failed:  # another version there, or none
                raise
        except self.ray.exceptions.ObjectLostError:
            pass  # the machine went after it had answered
        return answers[answer], None

    def close(self) -> None:
        for slot in list(self.actors):
            self._end(slot)
        if self.started:
            self.ray.shutdown()

    def _end(self, slot: int) -> None:
        if slot in self.actors:
            self.ray.kill(self.actors.pop(slot))


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed; install whisper-harvest[ray]") from None
    return ray


def share_resources(
    there: dict[str, float], count: int | None, most: int | None, gpu: bool
) -> tuple[int, dict[str, float]]:
    """How many actors a cluster with these resources gets, and what each of them asks for.

    An actor has a CPU, and a GPU or an equal part of one if the work can use it and there is any.

    Args:
        there: Ray's names and amounts, such as ``{"CPU": 16.0, "GPU": 2.0}``.
        count: actors that are wanted; None for one a GPU, or one a CPU where none is used.
        most: more than these would be idle; None for no limit.

    Raises:
        UserError: more are wanted than the cluster has CPUs; the last of them would never start.
    """
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0)) if gpu else 0
    if (count or 1) > cpus:
        raise UserError(f"the Ray cluster has {cpus} CPUs; give at most so many --workers")
    wanted = min(count or gpus or cpus, cpus, most or cpus)
    if not gpus:
        return wanted, {"num_cpus": 1}
    return wanted, {"num_cpus": 1, "num_gpus": 1 / math.ceil(wanted / gpus)}
