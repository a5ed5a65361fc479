"""CTranslate2 on a GPU: the cuBLAS that it asks for; today's torch brings another version."""

import ctypes
from importlib import metadata

CUBLAS = "libcublas.so.12"
PACKAGE = "nvidia-cublas-cu12"
"""What the extra `cuda` installs."""


def open_cublas() -> None:
    """Open the cuBLAS of the extra `cuda`, where it is installed and the machine has a GPU.

    CTranslate2 asks the system's loader for it by name when it first multiplies. The loader does
    not look among Python's packages, but takes what this process has open already.
    """
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        load_library(PACKAGE, CUBLAS)


def load_library(package: str, name: str) -> None:
    """Open a shared library that an installed package holds; nothing where there is none."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == name:
            ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
