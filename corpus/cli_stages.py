"""`corpus segment`, `label`, `verdict` and `build`: from recordings to a dataset."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import console
from corpus.cli_common import (
    EngineOption,
    WorkersOption,
    folder_or_name,
    open_both,
    tell,
    workers_of,
)
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.workspace import Workspace, WorkspaceOption

if TYPE_CHECKING:
    from corpus.engine import Counts


def segment(
    target_seconds: Annotated[
        float | None,
        typer.Option(min=1.0, max=30.0, help="Length in seconds that segments should approach."),
    ] = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Cut recordings into segments of at most 30 s, at cues or at pauses.

    Example: corpus segment
    """
    from corpus.segment import segment_recordings

    space, catalogue = open_both(workspace)
    target = target_seconds or space.config.segment.target_seconds
    counts = segment_recordings(
        space, catalogue, target_seconds=target, workers=workers_of(space, engine, workers)
    )
    tell(counts, "segment", as_json)


def label(
    model: Annotated[
        str | None,
        typer.Option(help="Name, Hugging Face or CTranslate2 folder, or a run of `train fit`."),
    ] = None,
    language_token: Annotated[
        str | None,
        typer.Option(help="A related language, for one that the model has no token for."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    compute_type: Annotated[
        str | None, typer.Option(help="CTranslate2 compute type, such as float16 or int8.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Windows that go through the model together.")
    ] = None,
    releases: Annotated[
        bool, typer.Option("--all", help="Label the validated segments of releases too.")
    ] = False,
    aligner: Annotated[
        Path | None,
        typer.Option(help="A wav2vec2-CTC folder, to time the words of subtitles in its place."),
    ] = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pseudo-label segments with Whisper, time their words, and put subtitles in time by it.

    Example: corpus label --model openai/whisper-large-v3
    """
    from corpus.ctc import Aligner, align_subtitles
    from corpus.label import label_segments
    from corpus.models import find_model
    from corpus.retime import label_in_time

    space, catalogue = open_both(workspace)
    config = space.config.label
    name = model or config.model
    if name is None:
        raise UserError("which model? give --model, or set model under [label] in corpus.toml")
    whisper = find_model(space, name)
    ctc = Aligner(aligner, device=device or config.device) if aligner else None

    def label_all() -> "Counts":
        counts = label_segments(
            space,
            catalogue,
            whisper,
            language_token=language_token or config.language_token,
            device=device or config.device,
            compute_type=compute_type or config.compute_type,
            batch_size=batch_size or config.batch_size,
            releases=releases,
            workers=workers_of(space, engine, workers),
        )
        if ctc is not None:
            align_subtitles(space, catalogue, whisper.origin, ctc)
        return counts

    tell(label_in_time(space, catalogue, whisper.origin, label_all), "label", as_json)


def verdict(
    preset: Annotated[
        str | None, typer.Option(help="default, strict, lenient, relative or trusting.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Own thresholds, in the form of the built-in file.")
    ] = None,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", help="A preset: tell what it would change, and change nothing."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(help="Id of a segment or recording: tell why, and change nothing."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decide from scores and reviews which segments to keep, review or drop.

    Example: corpus verdict --what-if strict; corpus verdict --preset strict
    """
    from corpus import explain as explaining
    from corpus.score import phrases_for
    from corpus.thresholds import PRESETS_FILE, read_thresholds
    from corpus.verdict import Rules, apply_verdicts

    space, catalogue = open_both(workspace)
    if what_if and (preset or explain):
        raise UserError("--what-if names a preset of its own and goes alone; leave the other out")
    name = what_if or preset or space.config.verdict.preset
    values = read_thresholds(name, thresholds or PRESETS_FILE)
    language = space.config.language
    phrases = phrases_for(language, space.root)
    if what_if:
        forecast = explaining.forecast(catalogue, Rules(catalogue, values, language, phrases))
        if as_json:
            console.print_json({"preset": name, **asdict(forecast)})
        else:
            explaining.print_forecast(forecast, name)
        return
    if explain:
        rules = Rules(catalogue, values, language, phrases)
        explanation = explaining.explain(catalogue, rules, explain)
        if as_json:
            console.print_json({"preset": name, **explanation})
        else:
            explaining.print_explanation(explanation)
        return
    counts = apply_verdicts(catalogue, name, values, language, phrases)
    if as_json:
        console.print_json({"preset": name, **counts})
    else:
        print("verdict: " + ", ".join(f"{count} {word}" for word, count in counts.items()))


def build(
    name: Annotated[str | None, typer.Argument(help="Name of the dataset.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer of the model to be trained: folder or name.")
    ] = None,
    dev_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Hours to hold out beside the releases' own dev.")
    ] = None,
    test_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Hours to hold out beside the releases' own test.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of splits and packing.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Show what would be built; --json lists each row.")
    ] = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a frozen dataset of dense 30 s windows from the segments that are kept.

    Example: corpus build czech-1 --tokenizer openai/whisper-small
    """
    from corpus.build import build as write
    from corpus.build import check_media, check_name, plan_dataset, plan_rows, plan_totals
    from corpus.kept import count_tokens
    from corpus.score import phrases_for
    from corpus.verdict import heed_decisions

    space, catalogue = open_both(workspace)
    given: dict[str, Any] = {
        "name": name,
        "tokenizer": tokenizer,
        "dev_hours": dev_hours,
        "test_hours": test_hours,
        "seed": seed,
    }
    settings = replace(
        space.config.build, **{key: value for key, value in given.items() if value is not None}
    )
    settings = replace(settings, tokenizer=_tokenizer(space, settings.tokenizer))
    where = workers_of(space, engine, workers)
    check_name(settings.name)
    count_tokens(settings.tokenizer)  # one that is not there is told before hours of work
    if check_media(space, catalogue, where).failed:
        console.say("warning: some clips cannot be read; which: corpus status --json")
    language = space.config.language
    if late := heed_decisions(catalogue, language, phrases_for(language, space.root)):
        console.say(f"{late} verdicts were of before people decided, so all were given again")
    plan = plan_dataset(space, catalogue, settings, where)
    for warning in plan.warnings:
        console.say(f"warning: {warning}")
    told: dict[str, Any] = {
        "rows": {split: len(windows) for split, windows in plan.rows.items()},
        "left_out": plan.left_out,
        "fingerprint": plan.fingerprint,
    }
    if plan_only:
        if as_json:
            listed = {split: list(plan_rows(windows)) for split, windows in plan.rows.items()}
            leaked = [leak._asdict() for leak in plan.leaks]
            console.print_json({**told, "leaks": leaked, "windows": listed})
            return
        print(f"{settings.name} would have:")
    else:
        folder, written = write(space, catalogue, settings.name, plan, where)
        if as_json:
            console.print_json({"folder": str(folder), "written": written, **told})
            return
        print(f"{folder} {'is written' if written else 'was up to date'}")
    totals = list(plan_totals(plan))
    console.print_table("Rows", ["split", "rows", "segments", "hours", "fill"], totals)
    if plan.left_out:
        console.print_table("Left out", ["reason", "segments"], list(plan.left_out.items()))


def _tokenizer(space: Workspace, name: str | None) -> str | None:
    return folder_or_name(space, name) if name else None
