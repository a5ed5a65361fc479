"""`corpus add` and `corpus import`: one's own files, and published data sets."""

from pathlib import Path
from typing import Annotated

import typer

from corpus import console
from corpus.cli_common import open_both, tell
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from corpus.workspace import WorkspaceOption

import_app = console.new_app("Import a published data set.")

LicenceOption = Annotated[
    str, typer.Option("--license", help="The licence of these files, as an SPDX id, or own.")
]


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

    space, catalogue = open_both(workspace)
    counts = take(space, catalogue, paths, licence=licence)
    tell(counts, "add", as_json)


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
    space, catalogue = open_both(workspace)
    counts = importing.import_common_voice(
        space,
        catalogue,
        path,
        validated_rest=validated_rest,
        other=other,
        from_mdc=from_mdc,
    )
    tell(counts, "import", as_json)


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

    space, catalogue = open_both(workspace)
    counts = importing.import_fleurs(space, catalogue, name, text_column=text_column)
    tell(counts, "import", as_json)


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

    space, catalogue = open_both(workspace)
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
    tell(counts, "import", as_json)
