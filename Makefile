# make demo       run the whole path on synthetic speech, from a video site to a WER table
# make test       run the tests (make test-slow: those that take minutes)
# make lint       ruff and mypy
#
# Each makes the virtual environment .venv first, once, and again when the dependencies change.

PYTHON ?= python3
BIN := .venv/bin

# The build of torch is chosen here and nowhere else. Without an NVIDIA driver it is this version
# first of all, by itself, so that pip takes a CPU wheel where its sources hold one; what needs
# torch is then satisfied and the CUDA libraries are never pulled in.
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
TORCH ?= torch==2.13.0
else
TORCH ?= torch
endif

.PHONY: demo test test-slow lint format clean

demo: .venv/.ready
	$(BIN)/python -m demo

test: .venv/.ready chromium
	$(BIN)/python -m pytest -m "not slow and not network"

test-slow: .venv/.ready chromium
	$(BIN)/python -m pytest -m "slow and not network"

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; give it as make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "error: no venv module; apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv; this takes some minutes"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# The browser tests drive Debian's Chromium; without it they are skipped, and say so.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
		echo "note: Chromium is missing, browser tests are skipped; apt-get install chromium" >&2

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
