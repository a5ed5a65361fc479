"""The `corpus` command line."""

import contextlib
import math
import re
import sys
import urllib.parse
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import console
from corpus.catalogue import Catalogue
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.export import Format
from corpus.text import base_language
from corpus.workspace import FetchConfig, Workspace, WorkspaceOption, init_workspace, open_workspace

if TYPE_CHECKING:
    from corpus.engine import Counts, Workers
    from corpus.fetch import Planned
    from corpus.iterate import Rounds

app = console.new_app(
    "Collect speech, turn it into labelled segments, and build the training set.\n\n"
    "Example: corpus init czech --language cs; cd czech; "
    'corpus fetch --license cc --search "rozhovor"; corpus run'
)
import_app = console.new_app("Import a published data set.")
app.add_typer(import_app, name="import")

ANY_LANGUAGE = "any"

ProxyOption = Annotated[str | None, typer.Option(help="HTTP or SOCKS proxy URL.")]
NoCheckCertificateOption = Annotated[
    bool, typer.Option("--no-check-certificate", help="Accept any TLS certificate.")
]
NoSleepOption = Annotated[
    bool,
    typer.Option(
        "--no-sleep", help="Do not pause between requests; only to a site on this machine."
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="local, or ray: the cluster at RAY_ADDRESS, else one here."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes, or Ray actors.")
]
LicenceOption = Annotated[
    str, typer.Option("--license", help="The licence of these files, as an SPDX id, or own.")
]


def main() -> None:
    """Entry point of the `corpus` command."""
    console.run(app)


def _open(workspace: Path | None) -> tuple[Workspace, Catalogue]:
    found = open_workspace(workspace)
    return found, Catalogue(found.catalogue_url)


def _open_to_read(workspace: Path | None) -> tuple[Workspace, Catalogue]:
    """As `_open`, for commands that only look: a catalogue that is gone is told, not made anew."""
    space = open_workspace(workspace)
    if space.config.catalogue is None and not (space.root / "catalogue.sqlite").exists():
        console.say(
            f"warning: {space.root} has no catalogue.sqlite, so nothing is known here; put it "
            "back, or begin a new one with `corpus fetch` or `corpus add`"
        )
        return space, Catalogue("sqlite://")
    return space, Catalogue(space.catalogue_url)


def _workers(space: Workspace, engine: str | None, workers: int | None) -> "Workers":
    """Where to work: what the options say, else corpus.toml."""
    from corpus.engine import Workers

    config = space.config.engine
    return Workers(engine or config.name, workers or config.workers)


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
    from_file: Annotated[
        Path | None, typer.Option(help="File of addresses, one a line; # begins a comment.")
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", help="Only `cc`: Creative Commons without ND and NC.")
    ] = "cc",
    allow_nc: Annotated[
        bool, typer.Option("--allow-nc", help="Take licences for non-commercial use too.")
    ] = False,
    max_videos: Annotated[int | None, typer.Option(min=1, help="List at most this many.")] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop when so much of what is listed is here."),
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds; shorter videos are left.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds; longer videos are left.")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Spoken language, such as pt-BR, if not just the workspace's; any: whatever the "
            "site says is spoken."
        ),
    ] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Search by date instead of by relevance.")
    ] = False,
    subtitles_only: Annotated[
        bool, typer.Option("--subtitles-only", help="Leave videos without human subtitles.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be taken, and take nothing.")
    ] = False,
    cookies: Annotated[
        Path | None, typer.Option(help="Netscape cookie file; free videos need none.")
    ] = None,
    proxy: ProxyOption = None,
    rate_limit: Annotated[
        str | None, typer.Option(help="Bytes a second for media, such as 500K or 2M.")
    ] = None,
    no_check_certificate: NoCheckCertificateOption = False,
    no_sleep: NoSleepOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch Creative-Commons videos with their human subtitles.

    From YouTube, Wikimedia Commons, PeerTube, and other sites that tell a video's licence.
    Videos without usable subtitles are taken too, for pseudo-labelling. Automatic captions never
    become labels. Run it again to go on where it stopped.

    Example: corpus fetch --license cc --search "rozhovor" --max-videos 50
    """
    from corpus.fetch import fetch as take
    from corpus.fetch import plan_fetch, read_urls
    from corpus.sources.video import FetchOptions
    from corpus.sources.ytdlp import check_cookies

    if licence != "cc":
        raise UserError(f"--license {licence}: only cc can be checked; own files: corpus add")
    space, catalogue = _open(workspace)
    config = space.config.fetch
    rate = rate_limit or config.rate_limit
    if cookies:
        check_cookies(cookies)
        console.say("warning: YouTube may block an account whose cookies fetch many videos")
    options = FetchOptions(
        language=_spoken(language, space.config.language),
        any_language=language == ANY_LANGUAGE,
        cookies=cookies,
        rate_limit=_bytes(rate) if rate else None,
        subtitles_only=config.subtitles_only or subtitles_only,
        min_seconds=config.min_duration if min_duration is None else min_duration,
        max_seconds=config.max_duration if max_duration is None else max_duration,
        allow_nc=config.allow_nc or allow_nc,
        newest_first=newest_first,
        **_network(config, proxy, no_check_certificate, no_sleep),
    )
    if (options.min_seconds or 0.0) > (options.max_seconds or math.inf):
        raise UserError(f"no video is {options.wanted_length} long; exchange the two limits")
    addresses = [*(urls or []), *(read_urls(from_file) if from_file else [])]
    if dry_run:
        planned = plan_fetch(
            catalogue,
            addresses,
            search or [],
            options,
            max_videos=max_videos,
            max_hours=max_hours,
        )
        _tell_plan(planned, as_json)
        return
    counts = take(
        space,
        catalogue,
        addresses,
        search or [],
        options,
        max_videos=max_videos,
        max_hours=max_hours,
    )
    _tell(counts, "fetch", as_json, ("taken", "not taken"))


def _network(
    config: FetchConfig, proxy: str | None, no_check_certificate: bool, no_sleep: bool
) -> dict[str, Any]:
    """The options of `FetchOptions` on how to reach a site."""
    proxy = proxy or config.proxy
    sleep = config.sleep and not no_sleep
    host = urllib.parse.urlsplit(proxy or "").hostname
    if not sleep and host not in {"localhost", "127.0.0.1", "::1"}:
        raise UserError(
            "without pauses a public site blocks this address; --no-sleep is only for a site on "
            "this machine, reached by --proxy http://127.0.0.1:PORT"
        )
    return {
        "proxy": proxy,
        "check_certificate": config.check_certificate and not no_check_certificate,
        "sleep": sleep,
    }


def _spoken(asked: str | None, language: str) -> str:
    """The code of the language to fetch in a workspace for `language`: that, or a kind of it."""
    if asked in {None, ANY_LANGUAGE}:
        return language
    if base_language(asked) != base_language(language):
        raise UserError(
            f"--language {asked}: this workspace is for {language}; make one for {asked} with "
            "`corpus init`"
        )
    return asked


def _bytes(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.strip().upper())
    if match is None or float(match[1]) == 0:
        raise UserError(f"{text!r} is no rate; give bytes a second, such as 500K or 2M")
    return int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))


def _tell_plan(planned: "Iterable[Planned]", as_json: bool) -> None:
    videos = list(planned)
    taken = [video for video in videos if video.outcome == "take"]
    hours = sum(video.seconds or 0.0 for video in taken) / 3600
    if as_json:
        console.print_json(
            {"take": len(taken), "hours": hours, "videos": [asdict(video) for video in videos]}
        )
        return
    console.print_table(
        f"{len(taken)} of {len(videos)} would be taken, {hours:.2f} hours",
        ["video", "title", "minutes", "outcome", "licence", "subtitles", "why"],
        [
            [
                video.id,
                video.title,
                None if video.seconds is None else f"{video.seconds / 60:.1f}",
                video.outcome,
                video.licence,
                video.subtitles,
                video.why,
            ]
            for video in videos
        ],
    )


@app.command()
def add(
    paths: Annotated[
        list[Path], typer.Argument(help="Audio or video files, folders, or manifests (CSV, JSONL).")
    ],
    licence: LicenceOption = "own",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add own audio or video, with .srt or .vtt beside it where there is one.

    A manifest, CSV or JSONL, has path and text, and may have start and end (seconds), speaker,
    language and split; several lines with a span are several segments of one file. What is there
    already stays as it is.

    Example: corpus add recordings/ takes.csv --license CC-BY-4.0
    """
    from corpus.add import add as take

    space, catalogue = _open(workspace)
    counts = take(space, catalogue, paths, licence=licence)
    _tell(counts, "add", as_json)


@import_app.command("common-voice")
def import_common_voice(
    path: Annotated[
        Path | None, typer.Argument(help="A release's folder, or its archive (.tar.gz).")
    ] = None,
    validated_rest: Annotated[
        bool,
        typer.Option(
            "--validated-rest",
            help="Take all validated clips whose speaker and sentence are not in dev or test.",
        ),
    ] = False,
    other: Annotated[
        bool, typer.Option("--other", help="Take clips that nobody has validated, to be checked.")
    ] = False,
    from_mdc: Annotated[
        str | None,
        typer.Option(help="Id of a release to get from the Mozilla Data Collective."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Import a Mozilla Common Voice release, of read sentences or of spontaneous speech.

    Example: corpus import common-voice cv-corpus-25.0-2026-03-09/cs --validated-rest
    """
    from corpus import importing

    if (path is None) == (from_mdc is None):
        raise UserError("give the release's folder or archive, or else --from-mdc ID")
    space, catalogue = _open(workspace)
    counts = importing.import_common_voice(
        space,
        catalogue,
        path,
        validated_rest=validated_rest,
        other=other,
        from_mdc=from_mdc,
    )
    _tell(counts, "import", as_json)


@import_app.command("fleurs")
def import_fleurs(
    name: Annotated[str, typer.Argument(help="A folder, or a name of the Hub such as cs_cz.")],
    text_column: Annotated[
        str, typer.Option(help="raw_transcription, or transcription without case and punctuation.")
    ] = "raw_transcription",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Import FLEURS in one language.

    Example: corpus import fleurs fleurs/data/cs_cz
    """
    from corpus import importing

    space, catalogue = _open(workspace)
    counts = importing.import_fleurs(space, catalogue, name, text_column=text_column)
    _tell(counts, "import", as_json)


@import_app.command("hf")
def import_hf(
    name: Annotated[
        str, typer.Argument(help="A folder, a Parquet or CSV file, or a name of the Hub.")
    ],
    config: Annotated[
        str | None, typer.Option(help="Which part, where a data set has several.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split; may be given several times.")
    ] = None,
    audio_column: Annotated[str | None, typer.Option(help="Default: guessed by its name.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Default: guessed by its name.")] = None,
    speaker_column: Annotated[
        str | None, typer.Option(help="Default: guessed by its name.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="SPDX id, or own. Default: what the card says."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Import a speech data set in a form of Hugging Face: its audio becomes FLAC here.

    Example: corpus import hf podcasts/ --text-column sentence --license CC-BY-4.0
    """
    from corpus import importing

    space, catalogue = _open(workspace)
    counts = importing.import_hf(
        space,
        catalogue,
        name,
        config=config,
        splits=split or [],
        audio_column=audio_column,
        text_column=text_column,
        speaker_column=speaker_column,
        licence=licence,
    )
    _tell(counts, "import", as_json)


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

    space, catalogue = _open(workspace)
    target = target_seconds or space.config.segment.target_seconds
    counts = segment_recordings(
        space, catalogue, target_seconds=target, workers=_workers(space, engine, workers)
    )
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

    space, catalogue = _open(workspace)
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
            workers=_workers(space, engine, workers),
        )
        if ctc is not None:
            align_subtitles(space, catalogue, whisper.origin, ctc)
        return counts

    _tell(label_in_time(space, catalogue, whisper.origin, label_all), "label", as_json)


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

    space, catalogue = _open(workspace)
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

    space, catalogue = _open(workspace)
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
    where = _workers(space, engine, workers)
    if check_media(space, catalogue, where).failed:
        console.say("warning: some clips cannot be read; which: corpus status --json")
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
    from corpus.export import core, hub

    if push and to != Format.HUB:
        raise UserError(f"--push uploads what --to hub writes, not {to}; give --to hub")
    space = open_workspace(workspace)
    if Path(name).name != name:
        raise UserError(f"{name!r} is no name of a dataset; `corpus build` makes one")
    folder = (output or space.root / "exports" / f"{name}-{to}").expanduser().resolve()
    written = core.export(space, name, to, folder)
    if to != Format.HUB and core.holds_private(space.datasets / name):
        console.say("note: some of its audio may not be handed on; only --to hub leaves that out")
    address = hub.push(folder, push) if push else None
    if as_json:
        console.print_json({"folder": str(folder), "written": written, "address": address})
        return
    print(f"{folder} {'is written' if written else 'was up to date'}")
    if address:
        print(f"uploaded to {address}, which only you can see until you publish it there")


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

    space, catalogue = _open(workspace)
    config = space.config.fetch
    options = FetchOptions(
        language=space.config.language,
        **_network(config, proxy, no_check_certificate, no_sleep),
    )
    problems = []
    for problem in chain(
        checks.check_media(space, catalogue, _workers(space, engine, workers)),
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

    space, catalogue = _open(workspace)
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
    space, _ = _open(workspace)
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

    _, catalogue = _open_to_read(workspace)
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

    _, catalogue = _open_to_read(workspace)
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

    space, catalogue = _open_to_read(workspace)
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
