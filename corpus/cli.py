"""The `corpus` command line."""

import contextlib
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpus import console
from corpus.catalogue import Catalogue
from corpus.cli_common import (
    EngineOption,
    NoCheckCertificateOption,
    NoSleepOption,
    ProxyOption,
    WorkersOption,
    folder_or_name,
    network_options,
    open_both,
    workers_of,
)
from corpus.cli_fetch import fetch
from corpus.cli_import import add, import_app, import_common_voice, import_fleurs, import_hf
from corpus.cli_show import report, show, status
from corpus.cli_stages import build, label, segment, verdict
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.export import Format
from corpus.workspace import Workspace, WorkspaceOption, init_workspace, open_workspace

if TYPE_CHECKING:
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


for command in (fetch, add, segment, label, verdict, build, status, show, report):
    app.command()(command)


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
        import_fleurs(folder_or_name(space, name), workspace=root)
    for name in config.sources.hf:
        import_hf(folder_or_name(space, name), workspace=root)
    segment(workspace=root)
