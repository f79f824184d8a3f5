PYTHON ?= python3
UV     := $(shell command -v uv 2>/dev/null)
BIN    := .venv/bin
SRC    := src tests bench
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# A fingerprint instead of a time stamp: a fresh clone gives every file the same time.
.venv/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Cadenza needs Python 3.11 or newer; set PYTHON=python3.12, say"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "This Python cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing the pinned packages into .venv (once, a minute or two)"
ifdef UV
	@uv venv --quiet --clear --python $(PYTHON) .venv
	@uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endif
	@touch $@

up: .venv/.ready  ## start everything on this machine: database, simulator, API
	@exec "$(BIN)/python" -m cadenza up --with-parent

smoke: .venv/.ready  ## prove a running Cadenza by its own API (CADENZA_URL, default this machine)
	@"$(BIN)/python" -m cadenza smoke

test: .venv/.ready  ## run the tests (about 7 minutes on 2 cores)
	@"$(BIN)/python" -m pytest -q -m "not verify" -n 4 --dist loadfile

verify: .venv/.ready  ## the longer tier: more cuts, more kills, other clients
	@"$(BIN)/python" -m pytest -q -n 4 --dist loadfile

check: .venv/.ready  ## format, lint, types, imports, dependencies, spelling, migrations
	@"$(BIN)/ruff" format --check --quiet $(SRC)
	@"$(BIN)/ruff" check --quiet $(SRC)
	@"$(BIN)/basedpyright" --warnings
	@PYTHONPATH=src "$(BIN)/lint-imports" --no-cache
	@"$(BIN)/deptry" src
	@"$(BIN)/codespell"
	@"$(BIN)/python" -m cadenza migrate --sql | "$(BIN)/squawk" --config .squawk.toml

bench: .venv/.ready  ## measure, each against a baseline of the same run
	@"$(BIN)/python" -m bench

test-tools:  ## install the system programs that some tests use (Debian, as root)
	@.ci/test-tools

lock:  ## refresh the pinned requirements (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev requirements/build.in pyproject.toml -c requirements/run.txt -o requirements/dev.txt

.PHONY: help up smoke test verify check bench test-tools lock
