# The commands a contributor learns. `demo` and `test` set themselves up.
.PHONY: setup demo test check check-all bench gpu-check requirements clean help
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info < (3,14))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
CORES ?= all
UPGRADE ?=
# Processes of the tests: one per core, at most 8 (each holds torch); one core needs no second process.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 0 : n > 8 ? 8 : n)))

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: .venv/.ready ## make .venv with every pinned package

.venv/.ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "Vireo needs Python 3.11, 3.12 or 3.13 on PATH (or: make PYTHON=/path/to/python)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module (Debian/Ubuntu: apt-get install python3-venv)."; exit 1; }
	@command -v git >/dev/null || { echo "git is missing: results record the commit they were made with."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt
	@# The command `vireo`, with the build tools that are pinned too.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@# Jobs start Python often: compile once instead of at every start. A few packages hold
	@# templates that are not Python 3; they are not ours to fix.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
	@touch $@

demo: setup ## train, embed, score and report on the toy world, in a few minutes
	$(BIN)/snakemake --cores $(CORES) demo
	@$(BIN)/python -m vireo report --summary results/toy_viclip/toy_videomme.json
	@echo "Open results/report.html"

test: setup ## the test suite without slow and fault tests, a process per core (WORKERS=N)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: setup ## style, order of the rooms, types, workflow lint
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/test_imports.py
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

check-all: check ## everything: also slow, fault and cluster tests
	$(BIN)/python -m pytest -m "slow or faults or slurm or not slow"

bench: setup ## every claim of speed against the reference procedure
	@for b in bench/*.py; do $(BIN)/python $$b || exit 1; done

gpu-check: setup ## measure the models and the scan on this machine's GPU, nine minutes, no network
	$(BIN)/python bench/gpu.py

requirements: setup ## pin again after an edit of pyproject.toml (newest versions: UPGRADE=--upgrade)
	$(BIN)/uv pip compile --quiet $(UPGRADE) --no-emit-index-url --generate-hashes --all-extras --universal \
		--python-version 3.11 --custom-compile-command "make requirements" -o requirements.txt pyproject.toml
	$(BIN)/python scripts/generate.py

clean: ## remove what can be made again (data, trained weights and results stay)
	rm -rf cache logs .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis
