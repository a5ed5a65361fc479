"""A library that an installed package holds is found where programs ask for it by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import ctypes, sys
from corpus.cuda import load_library
sys.path.insert(0, sys.argv[1])
load_library("absent-package", "libspoken.so.12")
try:
    ctypes.CDLL("libspoken.so.12")
    sys.exit("the system has it anyway")
except OSError:
    load_library("spoken", "libspoken.so.12")
print(ctypes.CDLL("libspoken.so.12").answer())
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler: apt-get install gcc")
def test_a_library_of_a_package_is_open_for_whoever_names_it(tmp_path: Path) -> None:
    (tmp_path / "spoken").mkdir()
    info = tmp_path / "spoken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spoken\nVersion: 1.0\n")
    (info / "RECORD").write_text("spoken/libspoken.so.12,,\n")
    source = tmp_path / "spoken.c"
    source.write_text("int answer(void) { return 42; }\n")
    library = tmp_path / "spoken" / "libspoken.so.12"
    flags = ["-shared", "-fPIC", "-Wl,-soname,libspoken.so.12"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(library)], check=True)
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert asked.stdout == "42\n"
