"""The Hugging Face Hub: what is uploaded to it, and only when asked."""

import shlex
from pathlib import Path
from typing import Literal

from corpus.errors import UserError

REFUSED = (401, 403)
"""What HTTP answers to somebody who is not known, or may not do this."""


def push(folder: Path, repository: str, kind: Literal["model", "dataset"]) -> str:
    """Upload a folder; a repository that is not there yet is made, private.

    Returns:
        The address of the repository.

    Raises:
        UserError: the Hub refuses it or cannot be reached. The folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, repo_type=kind, folder_path=folder)
    except Exception as error:  # errors of HTTP, of names, of log-in: they share no other base
        words = ["hf", "upload", repository, str(folder), ".", "--repo-type", kind, "--private"]
        told = f"not uploaded ({_reason(error)}); `hf auth login`, then `{shlex.join(words)}`"
        raise UserError(f"{repository}: {told}") from error
    return str(made)


def _reason(error: Exception) -> str:
    """An error in one line; of a refusal only that, since the library guesses at much more."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code in REFUSED:
        return "the Hub does not let you: no token, a wrong one, or one that may not write there"
    return " ".join(str(error).split()) or type(error).__name__


def is_dataset(name: str) -> bool:
    """Whether the Hub has a dataset under a name, and no model; False where it cannot be asked."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        return not api.repo_exists(name) and api.repo_exists(name, repo_type="dataset")
    except Exception:  # see `push`
        return False
