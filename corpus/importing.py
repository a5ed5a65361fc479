"""`corpus import`: the clips of published releases, with the texts that they bring.

The clips stay where they are and are decoded when they are needed.
"""

from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import Catalogue, Failure, Recording
from corpus.collect import Removed, removed_items, take_whole
from corpus.errors import ItemError, UserError
from corpus.sources import common_voice
from corpus.text import base_language, clean_transcript
from corpus.workspace import Workspace

COMMIT_ROWS = 500
"""Clips of a release that one transaction takes; each holds no work worth more than a lookup."""


def import_common_voice(workspace: Workspace, catalogue: Catalogue, folder: Path) -> engine.Counts:
    """Take the train, dev and test clips of an unpacked Common Voice release.

    The clips stay where they are and are decoded when they are needed.

    Raises:
        UserError: the folder is no release.
    """
    release = common_voice.read_release(folder)
    if base_language(release.locale) != base_language(workspace.config.language):
        raise UserError(
            f"{folder} is a release for {release.locale}, this workspace is for "
            f"{workspace.config.language}; make one with `corpus init`"
        )
    for problem in release.problems:
        console.say(f"{folder}: {problem}")
    source = f"common-voice/{release.name}"
    failed = 0
    with workspace.lock("media"):
        # A clip keeps its name from release to release.
        ours = "common-voice:"
        with catalogue.session() as session:
            done = set(session.scalars(select(Recording.id).filter(Recording.id.startswith(ours))))
            done |= set(session.scalars(select(Failure.item).filter_by(stage="import")))
        removed = removed_items(catalogue)
        clips = [clip for clip in release.clips if _clip_id(clip) not in done]
        bar = console.progress(clips, desc="import", unit="clip")
        for batch in engine.batches(bar, COMMIT_ROWS):
            taken: list[Recording] = []
            refused: dict[str, ItemError] = {}
            for clip in batch:
                try:
                    if _clip_id(clip) in removed:
                        raise Removed(_clip_id(clip))
                    taken.append(_clip_recording(clip, release, source))
                except ItemError as error:
                    refused[_clip_id(clip)] = error
            with catalogue.session() as session:
                session.add_all(taken)
                for item, why in refused.items():
                    catalogue.record_failure(
                        session,
                        stage="import",
                        item=item,
                        kind="removed" if isinstance(why, Removed) else "not_taken",
                        message=str(why),
                        transient=False,
                    )
            failed += len(refused)
    return engine.Counts(len(clips) - failed, failed)


def _clip_id(clip: common_voice.Clip) -> str:
    return f"common-voice:{clip.locale}:{clip.path.stem}"


def _clip_recording(
    clip: common_voice.Clip, release: common_voice.Release, source: str
) -> Recording:
    if clip.duration_ms is None:
        clip = replace(clip, duration_ms=audio.duration_ms(clip.path))
    recording = Recording(
        id=_clip_id(clip),
        source=source,
        title=clip.path.stem,
        speaker=f"common-voice:{clip.speaker}" if clip.speaker else None,
        language=clip.locale,
        licence_raw="CC0 1.0",
        licence="CC0-1.0",
        licence_evidence={"release": release.name},
        attribution=f"Mozilla Common Voice, {release.name}",
        # The terms of the Mozilla Data Collective forbid hosting the audio elsewhere.
        redistributable=False,
        media_path=str(clip.path.resolve()),
        duration_ms=clip.duration_ms,
        split=clip.split,
    )
    take_whole(recording, clean_transcript(clip.text), release.name)
    return recording
