"""What decides between keep, review and drop: the presets of `thresholds.toml`."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from corpus.errors import UserError

PRESETS_FILE = Path(__file__).with_name("thresholds.toml")

KEEP, REVIEW, DROP = "keep", "review", "drop"
VERDICTS = (KEEP, REVIEW, DROP)
"""From the best to the worst: the worst of what is found about a segment is its verdict."""

LEAST_GROUP = 30
"""Scores from which quantiles are taken; a channel with fewer goes by the whole catalogue's."""


@dataclass(frozen=True)
class Thresholds:
    """One preset of `thresholds.toml`, where each value is explained."""

    max_cer: float
    review_cer: float
    max_edge_cer: float
    max_ins_rate: float
    min_align_prob: float
    unchecked: str
    min_logprob: float
    review_logprob: float
    max_disagreement: float
    no_speech: float
    max_compression: float
    min_language_prob: float
    min_script_share: float
    min_chars_per_second: float
    max_chars_per_second: float
    keep_cer_quantile: float
    drop_cer_iqrs: float
    keep_logprob_quantile: float
    drop_logprob_quantile: float

    def version(self, preset: str) -> str:
        """The preset's name and a hash of its values."""
        return f"{preset}@{hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:8]}"

    @property
    def are_relative(self) -> bool:
        """Whether a channel's own scores move them."""
        return any(asdict(self)[name] for name in _RELATIVE)

    def relative_to(self, cers: Sequence[float], logprobs: Sequence[float]) -> "Thresholds":
        """The thresholds for a channel whose subtitles and pseudo-labels have these scores."""
        changed: dict[str, Any] = {}
        if len(cers) >= LEAST_GROUP:
            low, middle, high = np.quantile(cers, (0.25, 0.5, 0.75))
            if self.keep_cer_quantile:
                limit = float(np.quantile(cers, self.keep_cer_quantile))
                changed["max_cer"] = min(self.max_cer, limit)
            if self.drop_cer_iqrs:
                limit = float(middle + self.drop_cer_iqrs * (high - low))
                changed["review_cer"] = min(self.review_cer, limit)
        if len(logprobs) >= LEAST_GROUP:
            for name, quantile in (
                ("min_logprob", self.keep_logprob_quantile),
                ("review_logprob", self.drop_logprob_quantile),
            ):
                if quantile:
                    limit = float(np.quantile(logprobs, quantile))
                    changed[name] = max(getattr(self, name), limit)
        return replace(self, **changed)


_RELATIVE = (
    "keep_cer_quantile",
    "drop_cer_iqrs",
    "keep_logprob_quantile",
    "drop_logprob_quantile",
)


def read_thresholds(preset: str, file: Path = PRESETS_FILE) -> Thresholds:
    """Read a preset. What it leaves out is as in the file's own ``default`` or the built-in one.

    Raises:
        UserError: no such preset, or a value is unknown or of the wrong kind.
    """
    built_in, presets = _read_presets(PRESETS_FILE), _read_presets(file)
    if not isinstance(presets.get(preset), dict):
        raise UserError(f"no preset {preset!r} in {file.name}; there are: {', '.join(presets)}")
    values = {**built_in["default"], **presets.get("default", {}), **presets[preset]}
    known = [f.name for f in fields(Thresholds)]
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{file}: no threshold {', '.join(unknown)}; there are: {', '.join(known)}")
    for name, value in values.items():
        if name == "unchecked" and value not in VERDICTS:
            raise UserError(f"{file}: [{preset}] unchecked is keep, review or drop, not {value!r}")
        if name != "unchecked" and type(value) not in {int, float}:
            raise UserError(f"{file}: [{preset}] {name} is a number, not {value!r}")
        if name.endswith("_quantile") and not 0 <= value <= 1:
            raise UserError(f"{file}: [{preset}] {name} is from 0 to 1, not {value!r}")
    return Thresholds(**values)


def _read_presets(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: thresholds cannot be read ({reason})") from None
