"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME` runs one."""

import argparse
import contextlib
import importlib
import pkgutil
import sys
from dataclasses import asdict
from types import ModuleType

import benchmarks
from corpus.console import print_json, print_table
from corpus.errors import UserError


def find_benchmarks() -> dict[str, ModuleType]:
    """The modules of this package by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__))
    return {
        name.replace("_", "-"): importlib.import_module(f"benchmarks.{name}")
        for name in names
        if not name.startswith("_")
    }


def summary(benchmark: ModuleType) -> str:
    """The line that says what a benchmark measures."""
    return (benchmark.__doc__ or "").strip().split("\n")[0]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    found = find_benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, benchmark in found.items():
        command = commands.add_parser(
            name,
            help=summary(benchmark),
            description=benchmark.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--json", action="store_true", help="print one JSON document")
        benchmark.add_arguments(command)
    options = parser.parse_args(arguments)
    if options.name is None:
        for name, benchmark in found.items():
            print(f"{name:12} {summary(benchmark)}")
        return 0
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries would print among the figures
            figures = found[options.name].measure(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print_json([{**asdict(figure), "ratio": figure.ratio} for figure in figures])
    else:
        print_table(
            summary(found[options.name]),
            ["figure", "value", "unit", "beside", "its value", "ratio"],
            [[f.name, f.value, f.unit, f.beside, f.beside_value, _ratio(f)] for f in figures],
        )
    return 0


def _ratio(figure: benchmarks.Figure) -> str:
    return "" if figure.ratio is None else f"{figure.ratio:.3f}"


if __name__ == "__main__":
    sys.exit(main())
