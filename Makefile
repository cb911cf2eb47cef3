# Everything sets itself up in .venv from the lock files; only Python 3.11+ and make are needed.
PYTHON ?= python3
BIN := .venv/bin
RUN_LOCK := requirements.lock
DEV_LOCK := requirements-dev.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-failed test-quick coverage check bench bench-peers lock clean

demo: .venv/.demo
	$(BIN)/pattern demo

# Four workers on two processors: tests of databases wait for disks.
test: .venv/.dev
	$(BIN)/python -m pytest -n 4

# Which lines no test runs.
coverage: .venv/.dev
	$(BIN)/python -m pytest -n 4 --cov --cov-report=term --cov-fail-under=90

# What failed in the run before, once more and one by one: a test that only fails beside others shows.
test-failed: .venv/.dev
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-quick: .venv/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow" --hypothesis-profile quick

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) test || $(MAKE) test-failed

bench: .venv/.dev
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-peers: .venv/.dev
	$(BIN)/python benchmarks/peers.py $(ARGS)

lock: .venv/.dev
	$(BIN)/python scripts/lock.py

clean:
	rm -rf .venv benchmarks/.peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pattern-db needs Python 3.11 or newer; name one with make PYTHON=…")'
	$(PYTHON) -m venv .venv

.venv/.demo: $(RUN_LOCK) pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r $(RUN_LOCK)
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: $(RUN_LOCK) $(DEV_LOCK) pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r $(DEV_LOCK)
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ .venv/.demo
