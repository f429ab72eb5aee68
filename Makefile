# make quickstart and make test are all a newcomer needs; both make .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
# What an installation depends on; a change installs again.
DEPENDS := pyproject.toml constraints.txt

.PHONY: quickstart test test-all test-versions lint docs wheel dev clean

quickstart: $(VENV)/.base  ## train, evaluate, explain and report in minutes
	$(RUN) -m jaxmed.experiments run quickstart

# A file's tests share their fixtures, so a process runs whole files.
PYTEST := $(RUN) -m pytest -n auto --dist loadfile --durations=10

test: $(VENV)/.dev  ## the default suite: every package and every contract
	$(PYTEST)

test-all: test  ## and the slow tests: all architectures, all signals, simulations
	$(PYTEST) -m slow

test-versions: $(VENV)/.dev  ## the default suite with other versions, for hours
	$(RUN) tests/versions.py

lint: $(VENV)/.dev  ## lint, format and types, as CI checks them
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

docs: $(VENV)/.dev  ## the site, in build/site: runs the tutorials, checks the links
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

wheel: $(VENV)/bin/python  ## sdist and wheel, in dist, as an index would take them
	$(PIP) install build twine
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*

dev: $(VENV)/.dev  ## everything the tests need, in .venv

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) \
	  or sys.exit(f"jaxmed needs Python 3.11 or newer, and $(PYTHON) is {v}. " \
	  "Name another one: make PYTHON=python3.12 ...")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.base: $(DEPENDS) | $(VENV)/bin/python
	@echo "Installing jaxmed into $(VENV): about 1 GB, once"
	$(PIP) install -c constraints.txt -e '.[lite]'
	@touch $@

$(VENV)/.dev: $(DEPENDS) | $(VENV)/bin/python
	@echo "Installing jaxmed with torch and the test tools into $(VENV):" \
	  "several GB on Linux, once"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.base

clean:  ## remove .venv; runs/ stays
	rm -rf $(VENV)
