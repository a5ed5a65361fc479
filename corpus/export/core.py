"""Write a built dataset in another tool's form: a folder that appears whole or not at all.

The rows stay as they are: a window is one recording, and where a form has a place for segments
within a recording, they are there. The audio stays FLAC, but for Kaldi, which reads WAV alone.

The workspace remembers where its exports lie, and each export which recordings are in it, so that a
takedown finds them long after the dataset is gone.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from corpus import __version__, console
from corpus.catalogue import recording_of
from corpus.dataset import (
    check_shards,
    partial_folder,
    put_in_place,
    read_manifest,
    read_rows,
    shards_of,
    splits_of,
    write_manifest,
)
from corpus.errors import UserError
from corpus.export import Format, csv_folder, hub, kaldi, lhotse, nemo, webdataset
from corpus.export.rows import NamedRow
from corpus.workspace import Workspace

WRITERS: dict[Format, Callable[[Path, str, Iterable[NamedRow], Path], None]] = {
    Format.NEMO: nemo.write_split,
    Format.LHOTSE: lhotse.write_split,
    Format.KALDI: kaldi.write_split,
    Format.WEBDATASET: webdataset.write_split,
    Format.CSV: csv_folder.write_split,
}
"""Each writes one split: into a folder, its name, its rows, and where the folder will lie."""

RECORDINGS = "recordings.txt"
"""In an export: the ids of the recordings in it, a line each."""
PLACES = "exports.txt"
"""In the workspace: the folders of its exports, a line each."""


def places(workspace: Workspace) -> list[Path]:
    """The folders of the workspace's exports that are still there."""
    noted = workspace.root / PLACES
    if not noted.exists():
        return []
    folders = sorted(set(noted.read_text(encoding="utf-8").splitlines()))
    return [Path(folder) for folder in folders if Path(folder).is_dir()]


def export(workspace: Workspace, name: str, to: Format, output: Path) -> bool:
    """Export the dataset of this name to the folder `output`.

    Returns:
        Whether it was written now; not, where this very export is there already.

    Raises:
        UserError: there is no such dataset, one of its files is not as it was built, or
            something else is at `output`.
    """
    dataset = workspace.datasets / name
    identity = {
        "to": str(to),
        "dataset": dataset.name,
        "dataset_fingerprint": read_manifest(dataset).get("fingerprint"),
        "version": __version__,
    }
    splits = splits_of(dataset)
    if output.exists():
        if identity.items() <= read_manifest(output).items():
            return False
        raise UserError(f"{output} exists; give another place with --output, or remove it first")
    check_shards(dataset)
    # First of all: a kill then leaves a place without an export, but no export that is not noted.
    if output not in places(workspace):
        with (workspace.root / PLACES).open("a", encoding="utf-8") as noted:
            noted.write(f"{output}\n")
    with partial_folder(output) as folder:
        if to == Format.HUB:
            write_manifest(folder, hub.write(dataset, folder) | identity)
        else:
            recordings: set[str] = set()
            for split in splits:
                rows = _named_rows(dataset, split, recordings)
                WRITERS[to](folder, split, rows, output.resolve())
            listed = "".join(f"{recording}\n" for recording in sorted(recordings))
            (folder / RECORDINGS).write_text(listed, encoding="utf-8")
            shutil.copyfile(dataset / "ATTRIBUTION.md", folder / "ATTRIBUTION.md")
            write_manifest(folder, identity)
        put_in_place(folder, output)
    return True


def holds_private(dataset: Path) -> bool:
    """Whether the terms of some of a dataset's audio forbid handing it on."""
    return any(not part["redistributable"] for part in read_manifest(dataset).get("speech", []))


def _named_rows(dataset: Path, split: str, recordings: set[str]) -> Iterator[NamedRow]:
    """The rows of a split; the ids of their recordings are added to `recordings`."""
    rows = (row for shard in shards_of(dataset, split) for row in read_rows(shard))
    for index, row in enumerate(console.progress(rows, desc=f"export {split}", unit="row")):
        recordings |= {recording_of(segment["segment_id"]) for segment in row["segments"]}
        yield NamedRow(f"{split}-{index:07d}", row)
