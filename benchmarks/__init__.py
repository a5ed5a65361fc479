"""Measurements, each figure beside the peer or the limit that it is to be judged by.

A benchmark is a module of this package. The first line of its docstring is its line in the list,
`add_arguments(parser)` adds its own options and `measure(options)` returns its figures.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number and what stands beside it."""

    name: str
    value: float
    unit: str
    beside: str
    beside_value: float

    @property
    def ratio(self) -> float | None:
        """value / beside_value; None beside nothing."""
        return self.value / self.beside_value if self.beside_value else None
