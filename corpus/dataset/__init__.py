"""The frozen dataset: a Hugging Face folder of Parquet that `corpus` writes and `train` reads.

`write_dataset` streams rows into a hidden folder beside the target and renames it when the last
file is complete, so a dataset is either whole or absent. Equal rows give equal bytes, and a file
whose rows another dataset holds already is linked to instead of being made again.
`read_split` gives the FLAC bytes as they are: `datasets` would decode them with torchcodec, whose
wheels fit few machines, and `corpus.audio` decodes them anywhere.
"""

from corpus.dataset.files import (
    check_shards,
    file_hashes,
    read_manifest,
    shards_of,
    splits_of,
    write_manifest,
)
from corpus.dataset.read import HeldOut, held_out_audio, held_out_rows, read_rows, read_split
from corpus.dataset.rows import (
    GRID_SAMPLES,
    SCHEMA,
    LabelledSegment,
    Row,
    RowSegment,
    window_row,
)
from corpus.dataset.write import (
    SHARD_SECONDS,
    PlannedRow,
    PlannedSplit,
    link_or_copy,
    number_shards,
    partial_folder,
    put_in_place,
    write_dataset,
    write_rows,
)

__all__ = [
    "GRID_SAMPLES",
    "SCHEMA",
    "SHARD_SECONDS",
    "HeldOut",
    "LabelledSegment",
    "PlannedRow",
    "PlannedSplit",
    "Row",
    "RowSegment",
    "check_shards",
    "file_hashes",
    "held_out_audio",
    "held_out_rows",
    "link_or_copy",
    "number_shards",
    "partial_folder",
    "put_in_place",
    "read_manifest",
    "read_rows",
    "read_split",
    "shards_of",
    "splits_of",
    "window_row",
    "write_dataset",
    "write_manifest",
    "write_rows",
]
