# Everything a newcomer or CI types. Each target installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint type bench docs docs-strategies clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

$(VENV)/.run: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about two minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(INSTALL) --editable '.[dev,docs,joblib,submitit,optuna]'
	@touch $@

demo: $(VENV)/.run  ## Train every family of strategy on real digits; ends with a table and a figure
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.dev  ## All tests but the slow ones (a few minutes)
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.dev  ## The slow tests: kill and resume, commands of the README
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

lint: $(VENV)/.dev  ## ruff, and import-linter for the room rule
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

type: $(VENV)/.dev  ## mypy, strict, on mtl/
	@$(BIN)/mypy

bench: $(VENV)/.dev  ## Speed as ratios, measured side by side; writes docs/results/performance.md
	@$(BIN)/python scripts/benchmark.py

docs: $(VENV)/.dev  ## The documentation as a site, in outputs/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo "Written: outputs/site/index.html"

docs-strategies: $(VENV)/.dev  ## Write docs/strategies.md anew (a test compares)
	@$(BIN)/python scripts/document_strategies.py

clean:  ## Remove the environment and caches (run directories stay)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
