# make demo       run the whole path on synthetic speech, from a video site to a WER table
# make test       run the tests (make test-slow: those that take minutes)
# make lint       ruff and mypy
#
# Each makes the virtual environment .venv first, once, and again when the dependencies change.

PYTHON ?= python3
BIN := .venv/bin

# The build of torch is chosen here and nowhere else. Without an NVIDIA driver it is this version
# first of all, by itself, so that pip takes a CPU wheel where its sources hold one, and what needs
# torch is then satisfied. Where they hold none, pip takes the wheel for CUDA, which works too but is
# gigabytes larger; PyTorch's own index of CPU wheels is given as
#   make TORCH="torch==2.13.0 --index-url URL"
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
TORCH ?= torch==2.13.0
else
TORCH ?= torch
endif

.PHONY: demo test test-slow lint format clean

demo: .venv/.ready
	$(BIN)/python -m demo

# Files are shared out over processes; each holds torch, so many cores do not mean many of them.
test: .venv/.ready chromium postgresql
	$(BIN)/python -m pytest -m "not slow and not network" \
		--numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: .venv/.ready chromium postgresql
	$(BIN)/python -m pytest -m "slow and not network"
	$(BIN)/python -m pytest -m "not slow and not network" --postgres $(CATALOGUE_TESTS)

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# What is promised of every catalogue, once more with it in PostgreSQL.
CATALOGUE_TESTS = $(addprefix tests/corpus/test_, $(addsuffix .py, catalogue segment label verdict \
	build remove report show status verify)) $(addprefix tests/review_app/test_, \
	$(addsuffix .py, queue api auth leases recut agreement disputes exchange browse \
	statistics))

# The browser tests drive Debian's Chromium, the catalogue's start a server of Debian's PostgreSQL;
# without them they are skipped, and say so.
.PHONY: chromium postgresql
chromium:
	@command -v chromium >/dev/null || $(call install,chromium) || \
		echo "note: Chromium is missing, browser tests are skipped; apt-get install chromium" >&2

postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		$(call install,postgresql) || \
		echo "note: PostgreSQL is missing, its tests are skipped; apt-get install postgresql" >&2

install = { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
