"""The `corpus` command line."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import console
from corpus.catalogue import Catalogue
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.workspace import Workspace, WorkspaceOption, init_workspace, open_workspace

if TYPE_CHECKING:
    from corpus.engine import Counts
    from corpus.sources.youtube import FetchOptions

app = console.new_app(
    "Collect speech, turn it into labelled segments, and build the training set.\n\n"
    "Example: corpus init czech --language cs; cd czech; "
    'corpus fetch --license cc --search "rozhovor"; corpus run'
)
import_app = console.new_app("Import a published data set.")
app.add_typer(import_app, name="import")

LicenceOption = Annotated[
    str, typer.Option("--license", help="The licence of these files, as an SPDX id, or own.")
]


def main() -> None:
    """Entry point of the `corpus` command."""
    console.run(app)


def _open(workspace: Path | None) -> tuple[Workspace, Catalogue]:
    found = open_workspace(workspace)
    return found, Catalogue(found.catalogue_url)


def _tell(
    counts: "Counts", what: str, as_json: bool, words: tuple[str, str] = ("done", "failed")
) -> None:
    if as_json:
        console.print_json({"done": counts.done, "failed": counts.failed})
        return
    print(f"{what}: {counts.done} {words[0]}, {counts.failed} {words[1]}")
    if counts.failed:
        print("all of them, with their reasons: corpus status --json")


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


@app.command()
def fetch(
    urls: Annotated[
        list[str] | None, typer.Argument(help="Videos, playlists, channels or @handles.")
    ] = None,
    search: Annotated[
        list[str] | None, typer.Option(help="Words to search for; may be given several times.")
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", help="Only `cc`: Creative Commons without ND and NC.")
    ] = "cc",
    max_videos: Annotated[int | None, typer.Option(min=1, help="List at most this many.")] = None,
    subtitles_only: Annotated[
        bool, typer.Option("--subtitles-only", help="Leave videos without human subtitles.")
    ] = False,
    proxy: Annotated[str | None, typer.Option(help="HTTP or SOCKS proxy URL.")] = None,
    no_check_certificate: Annotated[
        bool, typer.Option("--no-check-certificate", help="Accept any TLS certificate.")
    ] = False,
    no_sleep: Annotated[
        bool, typer.Option("--no-sleep", help="Do not pause between requests (own servers only).")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch Creative-Commons videos with their human subtitles.

    Videos without usable subtitles are taken too, for pseudo-labelling. Automatic captions never
    become labels. Run it again to go on where it stopped.

    Example: corpus fetch --license cc --search "rozhovor" --max-videos 50
    """
    from corpus import collect

    if licence != "cc":
        raise UserError(f"--license {licence}: only cc can be checked; own files: corpus add")
    space, catalogue = _open(workspace)
    config = space.config.fetch
    counts = collect.fetch(
        space,
        catalogue,
        urls or [],
        search or [],
        _fetch_options(
            space,
            proxy=proxy or config.proxy,
            check_certificate=config.check_certificate and not no_check_certificate,
            sleep=config.sleep and not no_sleep,
            subtitles_only=config.subtitles_only or subtitles_only,
        ),
        max_videos=max_videos,
    )
    _tell(counts, "fetch", as_json, ("taken", "not taken"))


def _fetch_options(space: Workspace, **options: Any) -> "FetchOptions":
    from corpus.sources.youtube import FetchOptions

    return FetchOptions(language=space.config.language, **options)


@app.command()
def add(
    paths: Annotated[
        list[Path], typer.Argument(help="Audio or video files, folders, or CSV manifests.")
    ],
    licence: LicenceOption = "own",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add own audio or video, with .srt or .vtt beside it where there is one.

    A CSV manifest has the columns path and text, and may have speaker, language and split.
    What is there already stays as it is.

    Example: corpus add recordings/ takes.csv --license CC-BY-4.0
    """
    from corpus import collect

    space, catalogue = _open(workspace)
    counts = collect.add(space, catalogue, paths, licence=licence)
    _tell(counts, "add", as_json)


@import_app.command("common-voice")
def import_common_voice(
    folder: Annotated[Path, typer.Argument(help="An unpacked release: tsv files and clips/.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Import a Mozilla Common Voice release.

    Example: corpus import common-voice cv-corpus-25.0-2026-03-09/cs
    """
    from corpus import collect

    space, catalogue = _open(workspace)
    counts = collect.import_common_voice(space, catalogue, folder)
    _tell(counts, "import", as_json)


@app.command()
def segment(
    target_seconds: Annotated[
        float | None,
        typer.Option(min=1.0, max=30.0, help="Length in seconds that segments should approach."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Cut recordings into segments of at most 30 s, at cues or at pauses.

    Example: corpus segment
    """
    from corpus.segment import segment_recordings

    space, catalogue = _open(workspace)
    target = target_seconds or space.config.segment.target_seconds
    counts = segment_recordings(space, catalogue, target_seconds=target)
    _tell(counts, "segment", as_json)


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
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pseudo-label segments with Whisper, and check subtitles against what it hears.

    Example: corpus label --model openai/whisper-large-v3
    """
    from corpus.label import find_model, label_segments

    space, catalogue = _open(workspace)
    config = space.config.label
    name = model or config.model
    if name is None:
        raise UserError("which model? give --model, or set model under [label] in corpus.toml")
    counts = label_segments(
        space,
        catalogue,
        find_model(space, name),
        language_token=language_token or config.language_token,
        device=device or config.device,
        compute_type=compute_type or config.compute_type,
    )
    _tell(counts, "label", as_json)


@app.command()
def verdict(
    preset: Annotated[
        str | None, typer.Option(help="strict, default, lenient or trusting.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Own thresholds, in the form of the built-in file.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decide from scores and reviews which segments to keep, review or drop.

    Example: corpus verdict --preset strict
    """
    from corpus.verdict import PRESETS_FILE, apply_verdicts, read_thresholds

    space, catalogue = _open(workspace)
    name = preset or space.config.verdict.preset
    values = read_thresholds(name, thresholds or PRESETS_FILE)
    counts = apply_verdicts(catalogue, name, values, space.config.language)
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
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a frozen dataset of dense 30 s windows from the segments that are kept.

    Example: corpus build czech-1 --tokenizer openai/whisper-small
    """
    from corpus.build import build as write
    from corpus.build import check_media, make_plan

    space, catalogue = _open(workspace)
    config = space.config.build
    if check_media(space, catalogue).failed:
        console.say("warning: some clips cannot be read; which: corpus status --json")
    plan = make_plan(
        catalogue,
        tokenizer=_tokenizer(space, tokenizer or config.tokenizer),
        dev_hours=config.dev_hours if dev_hours is None else dev_hours,
        test_hours=config.test_hours if test_hours is None else test_hours,
        seed=config.seed if seed is None else seed,
    )
    for warning in plan.warnings:
        console.say(f"warning: {warning}")
    folder, written = write(space, name or config.name, plan)
    rows = {split: len(split_rows) for split, split_rows in plan.rows.items()}
    if as_json:
        console.print_json(
            {
                "folder": str(folder),
                "written": written,
                "rows": rows,
                "left_out": plan.left_out,
                "fingerprint": plan.fingerprint,
            }
        )
        return
    print(f"{folder} {'is written' if written else 'was up to date'}")
    console.print_table("Rows", ["split", "rows"], [[split, n] for split, n in rows.items()])
    if plan.left_out:
        console.print_table(
            "Left out", ["reason", "segments"], [[why, n] for why, n in plan.left_out.items()]
        )


def _tokenizer(space: Workspace, name: str | None) -> str | None:
    return str(space.path(name)) if name and space.path(name).is_dir() else name


@app.command()
def run(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Do everything that corpus.toml asks for, in order; what is done already is not done again.

    Example: corpus run
    """
    space, _ = _open(workspace)
    # With --json, stdout is for the one document at the end.
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        _run_stages(space)
    status(workspace=space.root, as_json=as_json)


def _run_stages(space: Workspace) -> None:
    from corpus.build import FrozenError

    config, root = space.config, space.root
    if config.fetch.urls or config.fetch.search:
        fetch(
            config.fetch.urls,
            config.fetch.search,
            max_videos=config.fetch.max_videos,
            workspace=root,
        )
    if config.sources.add:
        add([space.path(p) for p in config.sources.add], config.sources.licence, workspace=root)
    for release in config.sources.common_voice:
        import_common_voice(space.path(release), workspace=root)
    segment(workspace=root)
    if config.label.model:
        label(workspace=root)
    verdict(workspace=root)
    try:
        build(workspace=root)
    except FrozenError as frozen:
        console.say(f"note: {frozen}")


@app.command()
def status(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is there, what was refused and why, and hours by verdict and label.

    Example: corpus status --json
    """
    from corpus import report

    _, catalogue = _open(workspace)
    found = report.status(catalogue)
    if as_json:
        console.print_json(found)
    else:
        report.print_status(found)
