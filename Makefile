# Each target makes .venv first when it is missing. PYTHON=... chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all figures bench docs faults peers lint types doctest format clean

demo: .venv/runtime
	$(BIN)/inercia demo

# The tests that take at most a few seconds each.
test: .venv/dev
	$(BIN)/pytest -m 'not slow'

# Every kind of them, as .ci/run does; further draws of a kind, marked long, are left to make faults.
test-all: .venv/dev
	$(BIN)/pytest -m 'not long'

figures: .venv/runtime
	$(BIN)/inercia figures

# Ours beside the peers; about twenty minutes, on a machine that does nothing else. Writes benchmarks/RESULTS.md.
bench: .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python benchmarks/run.py

# The site, into site/: opens from a file, needs no network. Its links are checked, and its examples run.
docs: .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	$(BIN)/pytest tests/test_docs.py tests/test_readme.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The long hunts: tests that are further draws, 200 trainings killed at random moments, 100,000 damaged files read, every way to spoil an order and 200
# clean ones, 5,000 random cases beside oracles.
faults: .venv/dev
	$(BIN)/pytest -m long
	$(BIN)/python tests/kill_trainings.py 200
	$(BIN)/python tests/kill_hosts.py 15
	$(BIN)/python tests/fuzz_readers.py 100000
	$(BIN)/python tests/certificates.py 200
	$(BIN)/python tests/hunt.py 5000

# PyTorch, which some tests compare with when it is there (a large download).
peers: .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,peers]'

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/pyright

doctest: .venv/dev
	$(BIN)/pytest --doctest-modules src

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv figures site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "inercia needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ": call make PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/runtime: pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/dev: pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/runtime
