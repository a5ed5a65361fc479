"""Downloads releases from the Mozilla Data Collective, where Common Voice is published."""

import re
from pathlib import Path

from corpus.errors import UserError


def download(dataset: str, folder: Path) -> Path:
    """Download the archive of a data set into a folder; what an earlier run got is not got again.

    Args:
        dataset: its id, the last part of its address at the Data Collective.

    Raises:
        UserError: the SDK is not installed, the terms are not accepted, or it is not there.
    """
    check_id(dataset)
    try:
        import datacollective
    except ImportError:
        raise UserError(
            "--from-mdc needs the Data Collective's SDK; install whisper-harvest[mdc]"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(datacollective.download_dataset(dataset, download_directory=str(folder)))
    except Exception as error:  # built-in kinds, requests' and the SDK's own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{dataset} cannot be downloaded ({reason}); accept its terms at the Mozilla Data "
            "Collective, put your key into MDC_API_KEY, and run the same command again"
        ) from error


def check_id(dataset: str) -> str:
    """The id, if it has the form of one.

    Raises:
        UserError: it has not.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", dataset):
        raise UserError(f"--from-mdc {dataset}: give the last part of the data set's address")
    return dataset
