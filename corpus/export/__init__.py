"""Datasets in the forms that other tools read; each form has its file, `core` calls them."""

from enum import StrEnum


class Format(StrEnum):
    """What a dataset can be exported to."""

    NEMO = "nemo"
    LHOTSE = "lhotse"
    KALDI = "kaldi"
    WEBDATASET = "webdataset"
    CSV = "csv"
    HUB = "hub"
