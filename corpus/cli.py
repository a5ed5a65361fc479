"""The `corpus` command line."""

import contextlib
import sys
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import console
from corpus.catalogue import Catalogue
from corpus.cli_common import (
    EngineOption,
    NoCheckCertificateOption,
    NoSleepOption,
    ProxyOption,
    WorkersOption,
    network_options,
    open_both,
    open_to_read,
    tell,
    workers_of,
)
from corpus.cli_fetch import fetch
from corpus.cli_import import add, import_app, import_common_voice, import_fleurs, import_hf
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.export import Format
from corpus.workspace import Workspace, WorkspaceOption, init_workspace, open_workspace

if TYPE_CHECKING:
    from corpus.engine import Counts
    from corpus.iterate import Rounds

app = console.new_app(
    "Collect speech, turn it into labelled segments, and build the training set.\n\n"
    "Example: corpus init czech --language cs; cd czech; "
    'corpus fetch --license cc --search "rozhovor"; corpus run'
)
app.add_typer(import_app, name="import")


def main() -> None:
    """Entry point of the `corpus` command."""
    console.run(app)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to make the workspace.")],
    language: Annotated[str, typer.Option(help="Code of the language, such as cs or hsb.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a workspace.

    Example: corpus init czech --language cs
    """
    workspace = init_workspace(folder.expanduser().resolve(), language)
    Catalogue(workspace.catalogue_url)
    if as_json:
        console.print_json({"workspace": str(workspace.root), "language": language})
    else:
        print(f"workspace {workspace.root} is ready; its settings are in corpus.toml")


app.command()(fetch)
app.command()(add)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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
    from corpus.build import check_media, plan_dataset, plan_rows, plan_totals
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
    return _folder_or_name(space, name) if name else None


def _folder_or_name(space: Workspace, name: str) -> str:
    """A folder of the workspace or elsewhere on this machine, else a name of the Hub."""
    return str(space.path(name)) if space.path(name).is_dir() else name


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name of a dataset that `corpus build` has made.")],
    to: Annotated[Format, typer.Option(help="The form to write.")],
    output: Annotated[
        Path | None, typer.Option(help="New folder. Default: exports/NAME-FORM of the workspace.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(help="With --to hub: the dataset on the Hub to upload to, as USER/NAME."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a dataset in the form of another tool, or for the Hugging Face Hub.

    What may not be handed on is left out of the form for the Hub, and is in the others. Nothing
    that exists is overwritten.

    Example: corpus export czech-1 --to lhotse
    """
    from corpus import hub
    from corpus.export import core

    if push and to != Format.HUB:
        raise UserError(f"--push uploads what --to hub writes, not {to}; give --to hub")
    space = open_workspace(workspace)
    if Path(name).name != name:
        raise UserError(f"{name!r} is no name of a dataset; `corpus build` makes one")
    folder = (output or space.root / "exports" / f"{name}-{to}").expanduser().resolve()
    written = core.export(space, name, to, folder)
    if to != Format.HUB and core.holds_private(space.datasets / name):
        console.say("note: some of its audio may not be handed on; only --to hub leaves that out")
    address = hub.push(folder, push, "dataset") if push else None
    if as_json:
        console.print_json({"folder": str(folder), "written": written, "address": address})
        return
    print(f"{folder} {'is written' if written else 'was up to date'}")
    if address:
        print(f"uploaded to {address}; a new one is private until you publish it there")


@app.command()
def verify(
    licenses: Annotated[
        bool, typer.Option("--licenses", help="Ask the site again for each video's licence.")
    ] = False,
    proxy: ProxyOption = None,
    no_check_certificate: NoCheckCertificateOption = False,
    no_sleep: NoSleepOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """See whether media, datasets and, if asked for, licences are still as the catalogue says.

    Each problem is one line, and the exit code is then 1. Nothing is deleted.

    Example: corpus verify --licenses
    """
    from corpus import verify as checks
    from corpus.sources.video import FetchOptions

    space, catalogue = open_both(workspace)
    config = space.config.fetch
    options = FetchOptions(
        language=space.config.language,
        **network_options(config, proxy, no_check_certificate, no_sleep),
    )
    problems = []
    for problem in chain(
        checks.check_media(space, catalogue, workers_of(space, engine, workers)),
        checks.check_datasets(space, catalogue),
        checks.check_licences(catalogue, options) if licenses else (),
    ):
        problems.append(problem)
        if not as_json:
            print(f"{problem.item}: {problem.problem}: {problem.message}", flush=True)
    if as_json:
        console.print_json({"problems": [asdict(problem) for problem in problems]})
    else:
        print(f"verify: {len(problems)} problems")
    if problems:
        raise typer.Exit(1)


@app.command()
def remove(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Recordings, such as youtube:dQw4w9WgXcQ.")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="Id of a channel: all of its recordings, also those to come."),
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help="Address of a recording.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take recordings down, with everything derived from them, and never take them again.

    Datasets and exports that hold them are told, each with the command that makes it anew. Your own
    originals and the clips of releases stay where they are.

    Example: corpus remove --channel UCopenlectures0000000000
    """
    from corpus import remove as takedowns

    space, catalogue = open_both(workspace)
    takedown = takedowns.find(catalogue, ids or [], channel or [], url or [])
    if takedown.recordings and not yes:
        for recording in takedown.recordings:
            console.say(f"{recording.id}  {recording.title}")
        what = f"{len(takedown.recordings)} recordings with {takedown.segments} segments"
        _confirm(f"Remove {what} and all work on them for good?")
    takedowns.remove(space, catalogue, takedown)
    holdings = list(takedowns.holdings(space, takedown.items))
    if as_json:
        console.print_json(
            {
                "removed": [recording.id for recording in takedown.recordings],
                "segments": takedown.segments,
                "datasets": [
                    {
                        "folder": str(holding.folder),
                        "recordings": holding.recordings,
                        "rebuild": holding.rebuild,
                    }
                    for holding in holdings
                ],
            }
        )
        return
    print(f"remove: {len(takedown.recordings)} recordings, {takedown.segments} segments removed")
    for holding in holdings:
        print(f"{holding.folder} holds {len(holding.recordings)} of them; make it anew:")
        print(f"    {holding.rebuild}")


def _confirm(question: str) -> None:
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        raise UserError("nothing was done; answer y, or give --yes")


@app.command()
def run(
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rounds of self-training: label with the last round's model, judge, build, "
            "fine-tune and measure. What is fine-tuned stands under [train] in corpus.toml.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Do everything that corpus.toml asks for, in order; what is done already is not done again.

    Example: corpus run; corpus run --iterations 2
    """
    space, _ = open_both(workspace)
    # With --json, stdout is for the one document at the end.
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        if iterations is None:
            _run_stages(space)
        else:
            rounds = _run_rounds(space, iterations)
    if iterations is None:
        status(workspace=space.root, as_json=as_json)
    elif as_json:
        console.print_json([asdict(one) for one in rounds.done])
    else:
        from corpus.iterate import print_rounds

        print_rounds(rounds.done)


def _run_rounds(space: Workspace, iterations: int) -> "Rounds":
    from corpus.iterate import Rounds

    rounds = Rounds(space)
    _collect(space)
    for number in range(1, iterations + 1):
        # A dataset is frozen: a round that has one was labelled and judged for it.
        folder = rounds.dataset(number)
        if not folder.exists():
            label(rounds.labelling_model(number), workspace=space.root)
            verdict(workspace=space.root)
            tokenizer = space.config.build.tokenizer or rounds.model
            build(folder.name, tokenizer, workspace=space.root)
        rounds.train(number)
    return rounds


def _run_stages(space: Workspace) -> None:
    from corpus.build import FrozenError

    _collect(space)
    if space.config.label.model:
        label(workspace=space.root)
    verdict(workspace=space.root)
    try:
        build(workspace=space.root)
    except FrozenError as frozen:
        console.say(f"note: {frozen}")


def _collect(space: Workspace) -> None:
    """Fetch, add, import and cut."""
    config, root = space.config, space.root
    if config.fetch.urls or config.fetch.search:
        fetch(
            config.fetch.urls,
            config.fetch.search,
            max_videos=config.fetch.max_videos,
            max_hours=config.fetch.max_hours,
            workspace=root,
        )
    if config.sources.add:
        add([space.path(p) for p in config.sources.add], config.sources.licence, workspace=root)
    for release in config.sources.common_voice:
        import_common_voice(
            space.path(release),
            validated_rest=config.sources.validated_rest,
            other=config.sources.other,
            workspace=root,
        )
    for name in config.sources.fleurs:
        import_fleurs(_folder_or_name(space, name), workspace=root)
    for name in config.sources.hf:
        import_hf(_folder_or_name(space, name), workspace=root)
    segment(workspace=root)


@app.command()
def status(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is there, what was refused and why, and hours by verdict and label.

    Example: corpus status --json
    """
    from corpus.status import print_status
    from corpus.status import status as find_status

    _, catalogue = open_to_read(workspace)
    found = find_status(catalogue)
    if as_json:
        console.print_json(found)
    else:
        print_status(found)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Of a recording, a segment, or what was not taken.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show everything that is known of one recording or segment, by its id.

    Where it is from and under which licence, its subtitles, transcripts, scores, decisions and
    verdicts; or why it was not taken.

    Example: corpus show youtube:dQw4w9WgXcQ
    """
    from corpus.show import print_shown
    from corpus.show import show as find

    _, catalogue = open_to_read(workspace)
    found = find(catalogue, id)
    if as_json:
        console.print_json(found)
    else:
        print_shown(found)


@app.command()
def report(
    html: Annotated[
        Path | None, typer.Option(help="Write one page with plots and samples to listen to.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Report hours by source, label and verdict, why hours were lost, and the worst channels.

    The page holds all it shows and is read offline. An earlier report is replaced, no other file.

    Example: corpus report --html report.html
    """
    from corpus.report.numbers import report as find
    from corpus.report.tables import print_report

    space, catalogue = open_to_read(workspace)
    if html is not None:
        from corpus.report.page import check_target

        check_target(html)  # before the work
    found = find(space, catalogue)
    if html is not None:
        from corpus.report.page import write_page

        write_page(html, found, space)
    if as_json:
        console.print_json(found)
    elif html is not None:
        print(f"{html} is written; it opens in any browser")
    else:
        print_report(found)
