"""Archives: a release comes out whole; whatever could do harm is refused and leaves nothing."""

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath

import pytest

from corpus.errors import UserError
from corpus.sources import archive
from corpus.sources.archive import archive_name, is_archive, unpack

FILES = {
    "cv-corpus-25.0-2026-03-09/cs/train.tsv": b"path\tsentence\n",
    "cv-corpus-25.0-2026-03-09/cs/clips/1.mp3": b"one",
    "cv-corpus-25.0-2026-03-09/cs/README.md": b"not wanted",
}


def member(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def write(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def wanted(path: PurePosixPath) -> bool:
    return path.suffix in {".tsv", ".mp3"}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_what_is_wanted_comes_out_as_it_was(tmp_path: Path, mode: str) -> None:
    path = write(
        tmp_path / "cs.tar.gz",
        member("cv-corpus-25.0-2026-03-09", type=tarfile.DIRTYPE),
        *(member(name, data) for name, data in FILES.items()),
        mode=mode,
    )
    folder = unpack(path, tmp_path / "out", wanted)
    assert files_in(folder) == {n: d for n, d in FILES.items() if not n.endswith("README.md")}


def test_what_an_archive_is_called_and_what_is_in_it_give_its_name(tmp_path: Path) -> None:
    first = write(tmp_path / "cs.tar.gz", member("a.tsv", b"1"))
    (tmp_path / "later").mkdir()
    second = write(tmp_path / "later" / "cs.tar.gz", member("a.tsv", b"2"))
    names = {archive_name(first), archive_name(second)}
    assert len(names) == 2
    assert all(name.startswith("cs-") for name in names)
    assert is_archive(first)
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "absent.tar.gz")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../evil.tsv", b"x"), "'../evil.tsv' leads out of it"),
        (member("a/../../evil.tsv", b"x"), "leads out of it"),
        (member("/tmp/evil.tsv", b"x"), "leads out of it"),
        (member("clips", type=tarfile.SYMTYPE, linkname="/etc"), "is a link or a device"),
        (member("a.tsv", type=tarfile.SYMTYPE, linkname="b.tsv"), "is a link or a device"),
        (member("a.tsv", type=tarfile.LNKTYPE, linkname="b.tsv"), "is a link or a device"),
        (member("null.tsv", type=tarfile.CHRTYPE), "is a link or a device"),
        (member("pipe.tsv", type=tarfile.FIFOTYPE), "is a link or a device"),
        (member("b.tsv", b"again"), "'b.tsv' is in it twice"),
        (member("b.tsv/c.tsv", b"x"), "b.tsv"),
    ],
)
def test_a_member_that_could_do_harm_refuses_the_whole_archive(
    tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], message: str
) -> None:
    path = write(tmp_path / "cs.tar.gz", member("b.tsv", b"good"), bad)
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match=r"cs\.tar\.gz") as caught:
        unpack(path, tmp_path / "work" / "out", wanted)
    assert message in str(caught.value) or "cannot be unpacked" in str(caught.value)
    assert list((tmp_path / "work").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cs.tar.gz", "work"]


def bomb(path: Path, size: int) -> Path:
    """An archive of a few KB that holds a file of `size` zeros."""
    info, _ = member("clips/1.mp3")
    info.size = size
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(info.tobuf())
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return path


def test_an_archive_that_grows_without_measure_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.tar.gz", 2**28)
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="grows to more than 100 times its size"):
        unpack(path, tmp_path / "out", wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.tar.gz"]


def test_a_header_that_is_longer_than_any_name_is_refused(tmp_path: Path) -> None:
    info = member("long", type=tarfile.GNUTYPE_LONGNAME)[0]
    info.size = 2**24
    path = tmp_path / "names.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf())
        file.write(b"a" * 2**24)
    with pytest.raises(UserError, match="a header in it is too long"):
        unpack(path, tmp_path / "out", wanted)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_MEMBER_BYTES", 2, "has 3 bytes"),
        ("MAX_TOTAL_BYTES", 5, "more than any release"),
        ("MAX_MEMBERS", 1, "more than any release"),
    ],
)
def test_sizes_and_numbers_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    monkeypatch.setattr(archive, limit, value)
    path = write(tmp_path / "x.tar.gz", member("1.mp3", b"abc"), member("2.mp3", b"def"))
    with pytest.raises(UserError, match=message):
        unpack(path, tmp_path / "out", wanted)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_an_archive_that_is_cut_off_or_none_at_all_is_told(tmp_path: Path, share: float) -> None:
    whole = write(tmp_path / "x.tar.gz", member("1.mp3", os.urandom(100_000))).read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="get it again"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out", wanted)
    (tmp_path / "x.tar.gz").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="get it again"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_a_killed_run_left_is_begun_anew(tmp_path: Path) -> None:
    clips = [member(f"clips/{n}.mp3", os.urandom(20_000)) for n in range(800)]
    path = write(tmp_path / "x.tar.gz", *clips, mode="w:gz")
    script = (
        "import sys; from pathlib import Path; from corpus.sources.archive import unpack\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), lambda path: True)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path), str(tmp_path / "out")])
    part = tmp_path / ".out.part" / "clips"
    while process.poll() is None and not (part.is_dir() and any(part.iterdir())):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert 0 < len(list(part.iterdir())) < len(clips)
    unpack(path, tmp_path / "out", wanted)
    assert files_in(tmp_path / "out") == {info.name: data for info, data in clips}
    assert not (tmp_path / ".out.part").exists()
