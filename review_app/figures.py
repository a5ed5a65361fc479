"""The Statistics tab: the figures of `review_app.statistics` as plots and as tables.

Gradio draws them. Names of people stand in table cells only, which show text as text.
"""

from collections.abc import Callable, Sequence
from typing import Any

from review_app.accounts import Person
from review_app.statistics import Agreed, ErrorLeft, Errors, Pace, Statistics

DAYS = 60
"""As many are drawn: those that fit."""

PLOT_PIXELS = 300
"""A narrower one stands below the other, as on a phone."""

ACTIONS = {"accepted": "#22a06b", "corrected": "#6366f1", "rejected": "#d97706"}
"""Colours that can be told apart on a light and on a dark page."""

PEOPLE = [
    *("Reviewer", "Accepted", "Corrected", "Rejected", "Skipped", "Audio, min", "Work, min"),
    *("Segments an hour", "Audio min an hour", "Work per audio"),
]
VERDICTS = ["Verdict", "Decided", "Left", "Hours decided", "Hours left"]
AGREED = ["Between", "Segments", "Both keep", "Both reject", "Kappa", "CER", "Same text"]
LEVELS = ["Model is sure", "Heard", "Unchanged", "Rejected", "CER", "CER as written"]


def build(figures: Callable[[Person], Statistics]) -> None:
    """Fill the tab that is open in the page; it is filled anew each time it is selected."""
    import gradio
    import pandas

    with gradio.Tab("Statistics") as tab:
        summary = gradio.Markdown()
        with gradio.Row():
            days = gradio.BarPlot(
                x="day",
                y="segments",
                color="decision",
                color_map=ACTIONS,
                title="Segments decided a day",
                x_label_angle=-45,
                min_width=PLOT_PIXELS,
            )
            pace = gradio.BarPlot(
                x="day",
                y="minutes",
                title="Minutes of work for an hour of audio",
                x_label_angle=-45,
                min_width=PLOT_PIXELS,
            )
        people = gradio.Dataframe(headers=PEOPLE, datatype="str", label="Who, and how fast")
        with gradio.Row():
            calibration = gradio.BarPlot(
                x="model is sure",
                y="CER, %",
                title="What people changed, by how sure the model was",
                sort="x",
                min_width=PLOT_PIXELS,
            )
            error = gradio.Markdown(min_width=PLOT_PIXELS)
        levels = gradio.Dataframe(headers=LEVELS, datatype="str", label="Labels that were heard")
        between = gradio.Dataframe(headers=AGREED, datatype="str", label="How far people agree")
        verdicts = gradio.Dataframe(headers=VERDICTS, datatype="str", label="By verdict")

    def fill(request: gradio.Request) -> tuple[Any, ...]:
        found = figures(request.state.person)
        shown = found.total_days[-DAYS:]
        by_day = pandas.DataFrame(_by_action(shown), columns=["day", "decision", "segments"])
        lines = [[str(one.day), one.minutes_per_audio_hour] for one in shown]
        minutes = pandas.DataFrame(lines, columns=["day", "minutes"]).dropna()
        rates = [[one.level, 100 * one.cer] for one in found.levels if one.cer is not None]
        cer = pandas.DataFrame(rates, columns=["model is sure", "CER, %"])
        # Bars begin at nothing: a single one would not be seen otherwise.
        return (
            _summary(found),
            gradio.BarPlot(by_day, y_lim=[0, None]),
            gradio.BarPlot(minutes, y_lim=[0, None]),
            [_person(one) for one in found.people],
            gradio.BarPlot(cer, y_lim=[0, None]),
            _error_left(found.error_left),
            [_level(one) for one in found.levels],
            gradio.Dataframe([_agreed(one) for one in found.agreed], visible=bool(found.agreed)),
            _verdicts(found),
        )

    outputs = [summary, days, pace, people, calibration, error, levels, between, verdicts]
    tab.select(fill, outputs=outputs, api_name="statistics", queue=False)


def _summary(found: Statistics) -> str:
    decided = f"**{found.decided:,}** are decided: {found.hours_decided:.1f} hours of audio."
    told = [f"**{found.waiting:,}** segments are waiting, {decided}"]
    if found.disputed:
        told.append(f"On **{found.disputed:,}** reviewers disagree.")
    if found.total.minutes_per_audio_hour is not None:
        told.append(f"An hour of audio takes **{found.total.minutes_per_audio_hour:.0f} minutes**.")
    if found.errors.cer is not None:
        told.append(
            f"Of the characters of the model's texts people changed **{found.errors.cer:.1%}** "
            f"({found.errors.cer_as_written:.1%} with punctuation and case)."
        )
    return " ".join(told)


def _error_left(found: ErrorLeft) -> str:
    told = ["### What is wrong in what nobody has heard"]
    if found.cer is not None:
        told.append(f"About **{found.cer:.1%}** of the characters")
        if found.low is not None and found.high is not None:
            told[-1] += f" (between {found.low:.1%} and {found.high:.1%}, 19 times of 20)"
        told[-1] += f" of {found.segments:,} segments."
        told.append(f"People would reject some {found.rejects:.1%} of these segments.")
    if found.why is not None:
        told.append(f"{found.why[0].upper()}{found.why[1:]}.")
    if found.cer is not None:
        told.append(
            "An estimate from what people changed, weighted by how sure the model was: the queue "
            f"hands out the doubtful first. {found.covered:.0%} of the text lies where it holds."
        )
    return "\n\n".join(told)


def _by_action(days: Sequence[Pace]) -> list[list[Any]]:
    return [
        [str(day.day), name, count]
        for day in days
        for name, count in zip(ACTIONS, (day.accept, day.correct, day.reject), strict=True)
    ]


def _person(one: Pace) -> list[str]:
    counts = [f"{count:,}" for count in (one.accept, one.correct, one.reject, one.skip)]
    minutes = [f"{one.audio_minutes:.1f}", f"{one.work_minutes:.1f}"]
    rates = [
        "" if rate is None else f"{rate:.{digits}f}{unit}"
        for rate, digits, unit in (
            (one.segments_per_hour, 0, ""),
            (one.audio_minutes_per_hour, 1, ""),
            (one.minutes_per_audio_hour and one.minutes_per_audio_hour / 60, 1, " x"),
        )
    ]
    return [one.reviewer, *counts, *minutes, *rates]


def _level(one: Errors) -> list[str]:
    rates = ["" if rate is None else f"{rate:.1%}" for rate in (one.cer, one.cer_as_written)]
    counts = [f"{count:,}" for count in (one.segments, one.unchanged, one.rejected)]
    return [one.level or "", *counts, *rates]


def _agreed(one: Agreed) -> list[str]:
    """CER and same texts are of what both keep."""
    told = one.figures
    counts = [f"{count:,}" for count in (told.segments, told.both_keep, told.both_reject)]
    rates = [
        "" if rate is None else format(rate, form)
        for rate, form in ((told.kappa, ".2f"), (told.cer, ".1%"), (told.exact, ".0%"))
    ]
    return [" and ".join(one.reviewers) or "all", *counts, *rates]


def _verdicts(found: Statistics) -> list[list[str]]:
    names = sorted({one.verdict for one in found.verdicts}, key=lambda name: name or "~")
    rows = []
    for name in names:
        parts = {one.decided: one for one in found.verdicts if one.verdict == name}
        counts = [f"{parts[done].segments:,}" if done in parts else "0" for done in (True, False)]
        hours = [f"{parts[done].hours:.1f}" if done in parts else "0" for done in (True, False)]
        rows.append([name or "none yet", *counts, *hours])
    return rows
