# Everything that is done with this repository by hand or by CI. `make` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev up test chaos verify-long lint format bench screenshots clean

VENV := .venv
PYTHON := $(VENV)/bin/python
DATA ?= var
# Two test processes on two cores; more only find the machine busy.
JOBS ?= 2
CODE := forge projects runners tasks tests manage.py
DATABASE_SUITES := $(wildcard tests/projects tests/runners tests/tasks tests/api tests/admin tests/pages)
# Every address by everybody takes as long as all of these, and asks the database the same questions.
# Journeys that read the SQLite file itself are not here.
LONG_DATABASE_SUITES := $(DATABASE_SUITES) tests/access $(addprefix tests/journeys/test_,tasks.py \
  faults.py lost_runners.py waiting.py worker.py wrong_clock.py rotation.py revocation.py \
  broker_accounts.py)

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

$(PYTHON):
	@tools/venv $(VENV)

$(VENV)/.server: requirements.txt runners/worker/requirements.txt | $(PYTHON)
	@tools/install $(VENV) requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt runners/worker/requirements.txt | $(PYTHON)
	@tools/install $(VENV) requirements-dev.txt
	@touch $@ $(VENV)/.server

setup: $(VENV)/.server ## install what the server needs into .venv
setup-dev: $(VENV)/.dev ## and what lint, tests and benchmarks need

up: setup ## start Forge on this machine, run a demo task, stay until Ctrl-C
	@exec $(PYTHON) manage.py quickstart --data $(DATA) $(if $(PORT),--port $(PORT))

test: setup-dev ## every suite, long ones in their short form
	$(PYTHON) -m pytest tests -n $(JOBS) --dist loadfile
	@tools/on-postgres $(PYTHON) -m pytest $(DATABASE_SUITES) -n $(JOBS) -q

chaos: setup-dev ## kill, stop and cut off every part at every boundary; SEED=7 repeats a run
	@$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED))

verify-long: setup-dev ## the long forms, for closing an issue
	FORGE_LONG=1 $(PYTHON) -m pytest tests -n $(JOBS) --dist loadfile
	@FORGE_LONG=1 tools/on-postgres $(PYTHON) -m pytest $(LONG_DATABASE_SUITES) -n $(JOBS) --dist loadfile -q

lint: setup-dev ## format, ruff, mypy, import contracts, templates, migrations
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	SECRET_KEY=lint $(PYTHON) -m mypy $(CODE)
	$(VENV)/bin/lint-imports
	$(PYTHON) -m djlint templates --lint --quiet
	SECRET_KEY=lint DATABASE_URL=sqlite:// $(PYTHON) manage.py makemigrations --check --dry-run

format: setup-dev ## put the code into the house's format
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: setup-dev ## from click to process, beside plain Celery
	$(PYTHON) tests/benchmarks/dispatch.py

screenshots: setup-dev ## every page, light and dark, wide and narrow
	$(PYTHON) tests/browser/screenshots.py

clean: ## remove caches; data in var/ and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
