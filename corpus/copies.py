"""Recordings under another name: what is trained on may sound like what is held out.

Only recordings of nearly equal length are listened to, and each is compared by a fingerprint of its
sound.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from corpus import audio, engine
from corpus.catalogue import Catalogue
from corpus.dataset import HeldOut, held_out_audio
from corpus.fingerprint import MAX_SECONDS, Fingerprint, FingerprintIndex, fingerprint
from corpus.kept import Kept, Media, media_paths
from corpus.workspace import Workspace

SAME_AUDIO_MS = 500
"""Copies of a recording differ less in length: encoders add some tens of milliseconds."""


def same_audio(
    workspace: Workspace,
    catalogue: Catalogue,
    train: Sequence[Kept],
    held: Sequence[Kept],
    before: Sequence[HeldOut],
    workers: engine.Workers,
) -> dict[str, object]:
    """Recordings of train that sound like a held-out one, with what stands for its audio.

    Only those of nearly equal length are listened to; and a release that comes in splits is trusted
    not to have a recording in two.
    """
    theirs = {item.media.id: item.media for item in held}
    earlier = {row.recording for row in before}
    here = earlier & {item.media.id for item in (*train, *held)} if earlier else set()
    foreign = [row for row in before if row.recording not in here]
    lengths: dict[str, list[int]] = defaultdict(list)
    for media in theirs.values():
        lengths[_release(media)].append(media.duration_ms)
    lengths[""] += [round(row.seconds * 1000) for row in foreign]
    releases = {_release(item.media) for item in train}
    to_others = {
        release: sorted(
            length
            for other, some in lengths.items()
            if not release or other != release
            for length in some
        )
        for release in releases
    }
    if not any(to_others.values()):
        return {}
    ours = {item.media.id: item.media for item in train}
    candidates = [
        media for media in ours.values() if _is_near(media.duration_ms, to_others[_release(media)])
    ]
    if not candidates:
        return {}
    near = sorted({media.duration_ms for media in candidates})
    wanted = [media for media in theirs.values() if _is_near(media.duration_ms, near)]
    found = _fingerprints(workspace, catalogue, [*wanted, *candidates], workers)
    keys: dict[str, object] = {media.id: media.content for media in wanted} | {
        row.id: row.id for row in foreign
    }
    index = FingerprintIndex(
        [
            *((media.id, found[media.id]) for media in wanted if media.id in found),
            *(
                (row.id, fingerprint(audio.decode(flac)))
                for row, flac in held_out_audio(foreign)
                if _is_near(round(row.seconds * 1000), near)
            ),
        ]
    )
    matches = {m.id: index.find(found[m.id]) for m in candidates if m.id in found}
    return {item: keys[match] for item, match in matches.items() if match is not None}


def _release(media: Media) -> str:
    """The release that a recording came in with a split of its own; empty where it did not."""
    return media.source if media.split else ""


def _is_near(length_ms: int, others: Sequence[int]) -> bool:
    """Whether one of these sorted lengths (ms) could be that of a copy."""
    at = bisect_left(others, length_ms - SAME_AUDIO_MS)
    return at < len(others) and others[at] <= length_ms + SAME_AUDIO_MS


def _fingerprints(
    workspace: Workspace,
    catalogue: Catalogue,
    wanted: Sequence[Media],
    workers: engine.Workers,
) -> dict[str, Fingerprint]:
    paths = media_paths(workspace, catalogue, [media.id for media in wanted])
    found: dict[str, Fingerprint] = {}
    engine.run(
        list(paths.items()),
        _listen,
        lambda item, bits: found.__setitem__(item[0], bits),
        lambda item, error: None,  # `check_media` tells what cannot be read
        desc="fingerprint",
        unit="recording",
        workers=workers,
    )
    return found


def _listen(item: tuple[str, Path]) -> Fingerprint:
    return fingerprint(audio.read_span(item[1], 0, round(MAX_SECONDS * 1000)))
