"""What several benchmarks do: time the fastest run, measure a process, fill a catalogue."""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from corpus.catalogue import Catalogue

T = TypeVar("T")

REPEATS = 3  # the fastest counts: the others shared the processor
ROWS = 10_000  # of a statement


def fastest(
    work: Callable[[], T], clock: Callable[[], float] = time.perf_counter
) -> tuple[T, float]:
    """What the work gives, and the seconds of its fastest run."""
    least = math.inf
    for _ in range(REPEATS):
        start = clock()
        result = work()
        least = min(least, clock() - start)
    return result, least


def spent_by(module: str, *arguments: object) -> dict[str, float]:
    """What a module of this package prints as JSON of what it spent, run as a program by itself."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    spent: dict[str, float] = json.loads(done.stdout)
    return spent


def peak_mib() -> float:
    """The most memory that this process or a child of it had at a time, in MiB.

    This process's own is read from the kernel's list of it: `resource` would tell what the one had
    that started this one, if that was more.
    """
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def insert_rows(catalogue: "Catalogue", tables: Mapping[type, Iterable[Mapping[str, Any]]]) -> None:
    """Write made-up rows table by table, thousands in a statement."""
    from sqlalchemy import insert  # here, for whoever measures memory has no room for it

    for table, rows in tables.items():
        listed = list(rows)
        with catalogue.session() as session:
            for start in range(0, len(listed), ROWS):
                session.execute(insert(table), listed[start : start + ROWS])
