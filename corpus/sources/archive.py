"""Unpacks a release's .tar or .tar.gz: streamed, only what is wanted, and nothing outside.

The archive is read once from front to end, so it needs no more memory than a block. It is refused
as a whole when it holds a link, a device, a path that leads out, a name twice, or when it grows
beyond what a release can be: such an archive is broken, or made to do harm. The folder appears
under its name only when all of it is there.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from corpus import console
from corpus.errors import UserError

SUFFIXES = (".tar.gz", ".tgz", ".tar")

MAX_MEMBER_BYTES = 4 * 2**30
"""The largest list of the largest release has less than 1 GiB."""
MAX_TOTAL_BYTES = 2**40
MAX_MEMBERS = 20_000_000
"""The English release, the largest, has some 2.6 million clips."""
MAX_RATIO, RATIO_SLACK_BYTES = 100, 64 * 2**20
"""Lists shrink to a tenth and audio not at all; gzip can shrink zeros to a thousandth."""
HEADER_BYTES = 2**20
"""What may be read for headers between two members; the names in them are short."""

_IDENTITY_BYTES = 2**20
_BLOCK_BYTES = 2**16


def is_archive(path: Path) -> bool:
    """Whether a path is a file that `unpack` takes, by its name."""
    return path.name.endswith(SUFFIXES) and path.is_file()


def archive_name(path: Path) -> str:
    """A name for the unpacked folder: the archive's, and a hash of its size and first MiB.

    Archives of several releases are called alike (`cs.tar.gz`); what is in them differs.
    """
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_IDENTITY_BYTES))
    stem = next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))
    return f"{stem}-{digest.hexdigest()[:8]}"


def unpack(archive: Path, target: Path, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """Unpack the wanted files of an archive into the folder `target`, which must not exist yet.

    A folder that a killed run left half full is begun anew.

    Returns:
        `target`.

    Raises:
        UserError: the archive is broken, unsafe or too large, or the disk is full.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with archive.open("rb") as file:
            _unpack(file, archive, part, wanted)
        part.rename(target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise UserError(f"{archive}: refused or broken ({error}); get it again") from error
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


class _Stream:
    """The archive's bytes as tarfile reads them, with a limit on what may be read next."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._plain: IO[bytes] = gzip.GzipFile(fileobj=file) if zipped else file  # type: ignore[assignment]
        self._total = 0
        self.budget = HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._total += len(data)
        self.budget -= len(data)
        if self._total > MAX_RATIO * self._file.tell() + RATIO_SLACK_BYTES:
            raise tarfile.TarError(f"it grows to more than {MAX_RATIO} times its size")
        if self.budget < 0:
            raise tarfile.TarError("a header in it is too long")
        return data


def _unpack(
    file: IO[bytes], archive: Path, part: Path, wanted: Callable[[PurePosixPath], bool]
) -> None:
    stream: Any = _Stream(file)
    total = count = 0
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES) as tar:
        for member in console.progress(tar, desc=f"unpack {archive.name}", unit="file"):
            total, count = total + member.size, count + 1
            stream.budget = member.size + HEADER_BYTES
            if not 0 <= member.size <= MAX_MEMBER_BYTES:
                raise tarfile.TarError(f"{member.name!r} has {member.size} bytes")
            if total > MAX_TOTAL_BYTES or count > MAX_MEMBERS:
                raise tarfile.TarError("it holds more than any release")
            path = _checked(member)
            if member.isfile() and wanted(path):
                _write(tar.extractfile(member), part / path)
    if not count:
        raise tarfile.TarError("it is empty")


def _checked(member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a member, which is a plain file or folder and stays inside.

    Said in full here, as `tarfile.data_filter` is not in every Python 3.11.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.TarError(f"the path {member.name!r} leads out of it")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise tarfile.TarError(f"{member.name!r} is a link or a device, which no release has")
    return path


def _write(source: IO[bytes] | None, target: Path) -> None:
    assert source is not None  # it is a plain file
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
    except FileExistsError:
        raise tarfile.TarError(f"{target.name!r} is in it twice") from None
    os.chmod(target, 0o644)
