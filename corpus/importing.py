"""Bring published data sets into the catalogue: Common Voice, FLEURS, and those of the Hub.

A release's clips stay where they are, and its lists tell all that the catalogue needs, so nothing
is decoded here: `corpus build` looks at the audio. Clips of other data sets come as bytes of any
format and become FLAC in the workspace.
"""

import contextlib
import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.add import OWN
from corpus.catalogue import Catalogue, Recording
from corpus.dataset import hf
from corpus.errors import ItemError, UserError
from corpus.files import file_sha256
from corpus.intake import Arrival, Terms, take, tell_conventions
from corpus.sources import archive, common_voice, fleurs, licences, mdc
from corpus.sources.release import Clip, Release
from corpus.text import base_language, clean_transcript, is_language_code
from corpus.workspace import Workspace

LISTED_ROWS = 5_000
"""Clips that one transaction takes where nothing is decoded."""
DECODED_ROWS = 50
"""And where each is: a kill loses no more than this work."""

UNKNOWN_LICENCES = {"other", "unknown"}
"""What a card of the Hub says where it says nothing."""


def import_common_voice(
    workspace: Workspace,
    catalogue: Catalogue,
    path: Path | None = None,
    *,
    validated_rest: bool = False,
    other: bool = False,
    from_mdc: str | None = None,
) -> engine.Counts:
    """Take a Common Voice release: a folder, its archive, or one of the Mozilla Data Collective.

    Clips in a folder stay where they are. An archive is unpacked into the workspace.

    Args:
        path: the folder or the archive; None with `from_mdc`.
        validated_rest: take the validated clips outside the splits too.
        other: take clips that were not validated too; their texts are to be checked.
        from_mdc: id of the release at the Mozilla Data Collective.

    Raises:
        UserError: it is no release, or one in another language.
    """
    with workspace.lock("media"):
        if from_mdc is not None:
            folder = _from_mdc(workspace, from_mdc)
        elif path is None:
            raise UserError("give the release's folder or archive, or --from-mdc ID")
        else:
            folder = _unpacked(workspace, path, _is_common_voice)
        with _collector_paused():
            release = common_voice.read_release(folder, validated_rest=validated_rest, other=other)
        _check_language(workspace, release.locale, folder)
        terms = Terms(
            source=f"common-voice/{release.name}",
            prefix="common-voice",
            licence_raw="CC0 1.0",
            licence="CC0-1.0",
            # The terms of the Mozilla Data Collective forbid hosting the audio elsewhere.
            redistributable=False,
            attribution=f"Mozilla Common Voice, {release.name}",
        )
        return _take_release(workspace, catalogue, release, terms)


def import_fleurs(
    workspace: Workspace,
    catalogue: Catalogue,
    name: str,
    *,
    text_column: str = "raw_transcription",
) -> engine.Counts:
    """Take FLEURS in one language, from its folder or, by a name such as cs_cz, from the Hub.

    Raises:
        UserError: there is no such folder or name, or it is another language's.
    """
    if text_column not in fleurs.TEXT_COLUMNS:
        raise UserError(
            f"--text-column {text_column}: FLEURS has {' and '.join(fleurs.TEXT_COLUMNS)}"
        )
    with workspace.lock("media"):
        path = Path(name).expanduser()
        folder = fleurs.find_fleurs(path if path.is_dir() else _fleurs_of_the_hub(workspace, name))
        locale = folder.name
        if fleurs.is_locale(locale):
            _check_language(workspace, locale, folder)
        else:
            console.say(f"{folder}: its name tells no language: {workspace.config.language} it is")
        unpacked = {
            split: _unpacked(workspace, packed, fleurs.is_audio, name=f"fleurs-{locale}-{split}")
            for split, packed in fleurs.packed_audio(folder).items()
        }
        release = fleurs.read_fleurs(folder, unpacked, text_column=text_column)
        terms = Terms(
            source=f"fleurs/{locale}",
            prefix="fleurs",
            licence_raw="cc-by-4.0",
            licence="CC-BY-4.0",
            redistributable=True,
            attribution=licences.attribution(
                title=f"FLEURS, {locale}",
                creator="Conneau et al. (2022)",
                url=f"https://huggingface.co/datasets/{fleurs.REPOSITORY}",
                licence="CC-BY-4.0",
            ),
        )
        return _take_release(workspace, catalogue, release, terms)


def import_hf(
    workspace: Workspace,
    catalogue: Catalogue,
    name: str,
    *,
    config: str | None = None,
    splits: Sequence[str] = (),
    audio_column: str | None = None,
    text_column: str | None = None,
    speaker_column: str | None = None,
    licence: str | None = None,
) -> engine.Counts:
    """Take a data set in a form of Hugging Face, from a folder, a file or the Hub.

    The audio becomes FLAC in the workspace, one file for each recording. Rows without a text are
    taken for pseudo-labelling, and those in another language, where rows tell it, are left out.

    Raises:
        UserError: it cannot be read, its licence is not told, or it is in other languages.
    """
    with workspace.lock("media"):
        data = hf.DataSet(name, config)
        card = data.card()
        _check_card(workspace, name, card)
        terms = _hf_terms(data.name, licence, card)
        columns = hf.guess_columns(
            data.column_names(), audio=audio_column, text=text_column, speaker=speaker_column
        )
        console.say(
            f"{data.name}: audio is {columns.audio}, text is {columns.text}, speaker is "
            f"{columns.speaker or 'not told'}; licence {terms.licence}"
        )
        left_out = 0
        texts: list[str] = []

        def wanted() -> Iterator[hf.Example]:
            nonlocal left_out
            for example in data.examples(columns, splits):
                code = hf.row_language(example.language) or workspace.config.language
                if base_language(code) == base_language(workspace.config.language):
                    yield example
                else:
                    left_out += 1

        def identity(example: hf.Example) -> str:
            if example.problem:
                return f"{terms.source}:{example.name}"
            return f"hf:{example.digest[:32]}"

        def arrive(id: str, example: hf.Example) -> Arrival:
            arrival = _hf_arrival(workspace, data.name, terms, id, example)
            texts.append(example.text)
            return arrival

        try:
            counts = take(catalogue, wanted(), identity, arrive, terms, rows=DECODED_ROWS)
        finally:
            shutil.rmtree(_stage(workspace), ignore_errors=True)
        if left_out:
            console.say(f"{data.name}: {left_out} rows are in another language, left out")
        odd = [split for split in splits or data.splits if hf.our_split(split) is None]
        if odd:
            console.say(
                f"{data.name}: {', '.join(odd)} is neither train, dev nor test: `corpus build` "
                "splits it by speakers"
            )
        if counts.done:
            tell_conventions(catalogue, terms.source, texts)
        return counts


def _stage(workspace: Workspace) -> Path:
    return workspace.media / ".stage" / "import"


def _hf_arrival(
    workspace: Workspace, name: str, terms: Terms, id: str, example: hf.Example
) -> Arrival:
    """Decode a row's audio into the workspace, and describe it as a recording."""
    if example.problem:
        raise ItemError(example.problem)
    target = workspace.media / "hf" / f"{example.digest[:32]}.flac"
    staged = _stage(workspace) / example.name.replace("/", "-")
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(example.audio)
    try:
        info = audio.decode_to_flac(staged, target)
    finally:
        staged.unlink()
    columns = {
        **terms.columns,
        "id": id,
        "title": f"{name}, {example.name}",
        "speaker": f"{terms.source}:{example.speaker}" if example.speaker else None,
        "language": workspace.config.language,
        "licence_evidence": {"stated_by": terms.stated_by, "row": example.name},
        "media_path": str(target.relative_to(workspace.root)),
        "sha256": file_sha256(target),
        "duration_ms": info.duration_ms,
        "split": example.split,
    }
    return Arrival(columns, clean_transcript(example.text))


def _check_card(workspace: Workspace, name: str, card: hf.Card) -> None:
    spoken = {base_language(code) for code in card.languages if is_language_code(code)}
    if spoken - {"mul"} and base_language(workspace.config.language) not in spoken:
        raise UserError(
            f"the card of {name} says {', '.join(card.languages)}, this workspace is for "
            f"{workspace.config.language}; make one with `corpus init`"
        )


def _hf_terms(name: str, given: str | None, card: hf.Card) -> Terms:
    raw = given or card.licence
    identifier = licences.spdx(raw)
    if given and given != OWN and identifier is None:
        raise UserError(f"--license {raw}: not a licence known here; give an SPDX id, or {OWN}")
    if raw is None or raw.lower() in UNKNOWN_LICENCES:
        raise UserError(f"the card of {name} tells no licence; give --license, as an SPDX id")
    # Of a licence that is not known here nobody promises that clips may be passed on.
    known = identifier or raw
    source = f"hf/{name}"
    return Terms(
        source=source,
        prefix="hf",
        licence_raw=raw,
        licence=known,
        redistributable=licences.is_open(identifier),
        attribution=f"{name}, licensed under {known}",
        stated_by="user" if given else "card",
    )


def _from_mdc(workspace: Workspace, dataset: str) -> Path:
    """The unpacked release; the archive goes once it is unpacked."""
    target = _releases(workspace) / f"mdc-{mdc.check_id(dataset)}"
    if not target.is_dir():
        downloads = _releases(workspace) / ".downloads" / dataset
        archive.unpack(mdc.download(dataset, downloads), target, _is_common_voice)
        shutil.rmtree(downloads)
    return target


def _fleurs_of_the_hub(workspace: Workspace, name: str) -> Path:
    if not fleurs.is_locale(name):
        raise UserError(f"{name}: no such folder, and no part of FLEURS such as cs_cz")
    _check_language(workspace, name, Path(name))
    from huggingface_hub import snapshot_download

    folder = f"data/{name}"
    try:
        root = snapshot_download(
            fleurs.REPOSITORY,
            repo_type="dataset",
            allow_patterns=[f"{folder}/*.tsv", f"{folder}/audio/*.tar.gz"],
        )
    except (OSError, ValueError) as error:  # the Hub's exceptions are kinds of these
        reason = " ".join(str(error).split())
        raise UserError(f"no folder {name}, and it cannot be fetched: {reason}") from error
    return Path(root) / folder


def _releases(workspace: Workspace) -> Path:
    return workspace.media / "releases"


def _unpacked(
    workspace: Workspace,
    path: Path,
    wanted: Callable[[PurePosixPath], bool],
    *,
    name: str | None = None,
) -> Path:
    """A folder as it is; an archive unpacked in the workspace, once."""
    if path.is_dir():
        return path
    if not archive.is_archive(path):
        raise UserError(f"{path}: no such folder, and no archive ({', '.join(archive.SUFFIXES)})")
    digest = archive.archive_name(path)
    target = _releases(workspace) / (f"{name}-{digest.rpartition('-')[2]}" if name else digest)
    return target if target.is_dir() else archive.unpack(path, target, wanted)


def _is_common_voice(path: PurePosixPath) -> bool:
    """Whether a member of a release's archive is a list or a clip."""
    if path.suffix == ".mp3":
        return path.parent.name in {"clips", "audios"}
    return path.suffix == ".tsv"


def _check_language(workspace: Workspace, locale: str, folder: Path) -> None:
    if base_language(locale) != base_language(workspace.config.language):
        raise UserError(
            f"{folder} is a release for {locale}, this workspace is for "
            f"{workspace.config.language}; make one with `corpus init`"
        )


def _take_release(
    workspace: Workspace, catalogue: Catalogue, release: Release, terms: Terms
) -> engine.Counts:
    """Take the clips of a release that lie in a folder; those of unknown length are decoded."""
    for note in release.notes:
        console.say(f"{release.name}: {note}")
    _tell_moved(catalogue, release, terms)
    inside = f"{workspace.root.resolve()}/"
    shared = terms.columns
    language = workspace.config.language if terms.prefix == "fleurs" else None

    def identity(clip: Clip) -> str:
        return _clip_id(clip, terms)

    def arrive(id: str, clip: Clip) -> Arrival:
        evidence: dict[str, Any] = {"release": release.name}
        if not clip.validated:
            evidence["validated"] = False
        if clip.as_written is not None:
            evidence["as_written"] = clip.as_written
        columns = {
            **shared,
            "id": id,
            "title": id.rpartition(":")[2],
            "speaker": f"{terms.prefix}:{clip.speaker}" if clip.speaker else None,
            "language": language or clip.locale,
            "licence_evidence": evidence,
            # What was unpacked into the workspace moves with it.
            "media_path": clip.file.removeprefix(inside),
            "sha256": None,
            "duration_ms": clip.duration_ms or audio.duration_ms(clip.path),
            "split": clip.split,
        }
        return Arrival(columns, clean_transcript(clip.text))

    told = [clip for clip in release.clips if clip.duration_ms]
    untold = [clip for clip in release.clips if not clip.duration_ms]
    with _collector_paused():
        listed = take(catalogue, told, identity, arrive, terms, rows=LISTED_ROWS)
    decoded = take(catalogue, untold, identity, arrive, terms, rows=DECODED_ROWS)
    counts = engine.Counts(listed.done + decoded.done, listed.failed + decoded.failed)
    if counts.done:
        tell_conventions(catalogue, terms.source, [clip.text for clip in release.clips])
    return counts


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Rows hold no cycles, and to look for some among all of them takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _clip_id(clip: Clip, terms: Terms) -> str:
    """A clip keeps its name from release to release."""
    return f"{terms.prefix}:{clip.locale}:{clip.name}"


def _tell_moved(catalogue: Catalogue, release: Release, terms: Terms) -> None:
    """Say how many clips an earlier release had in another split: they stay there."""
    ours = Recording.id.startswith(f"{terms.prefix}:", autoescape=True)
    earlier = select(Recording.id, Recording.split).filter(ours, Recording.source != terms.source)
    with catalogue.session() as session:
        splits = dict(session.execute(earlier).tuples().all())
    if not splits:
        return
    clips = ((splits.get(_clip_id(clip, terms)), clip.split) for clip in release.clips)
    moved = [(before, after) for before, after in clips if before not in {None, after}]
    held_out = sum(after != "train" for _, after in moved)
    if moved:
        console.say(
            f"{release.name}: {len(moved)} clips are here from an earlier release in another "
            f"split and stay in it, {held_out} of them held out in this one"
        )
