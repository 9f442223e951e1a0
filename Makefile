PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests start sooner where Python may keep what it has compiled
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
LOOSE := no-untyped-def arg-type assignment return-value operator no-any-return union-attr misc var-annotated index \
	type-arg unused-ignore call-overload func-returns-value

.PHONY: help install demo test test-slow test-slurm test-browser lint format typecheck audit bench notebooks docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables: PYTHON ($(PYTHON)), VENV ($(VENV)), JOBS test processes ($(JOBS)), PYTEST_ARGS ($(PYTEST_ARGS))"

# Touched only after everything is in place, so an installation that was cut short is taken up again.
$(READY): setup.cfg constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no '$(PYTHON)' found; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(READY) ## create the environment, with the tools for development

demo: $(READY) ## compare negative samplers on the embedded air-routes graph
	@$(BIN)/python scripts/demo.py

test: $(READY) ## run the tests and the docstring examples, without the slow ones
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-slow: $(READY) ## run the slow tests, and all examples of hypothesis
	@MEBNS_THOROUGH=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow or hypothesis" $(PYTEST_ARGS)

test-slurm: $(READY) ## run jobs on a SLURM started on this machine, as root; skipped where there is none; logs go to build/slurm
	@$(BIN)/python -m pytest -m slurm -rs tests/test_slurm.py $(PYTEST_ARGS)

test-browser: $(READY) ## look at runs in TensorBoard and in the explorer with a headless Chromium; pictures go to build/browser
	@$(BIN)/python -m pytest -m browser -rs tests/test_browser.py tests/test_browser_explorer.py

lint: $(READY) ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## mend what lint can mend by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: $(READY) ## check the types of the package
	@$(BIN)/mypy mebns_pl
	@# Scripts are loosely typed: what is looked for is calls of what has changed
	@MYPYPATH=benchmarks:scripts/campaigns $(BIN)/mypy --ignore-missing-imports $(addprefix --disable-error-code=,$(LOOSE)) \
		benchmarks/*.py scripts/*.py scripts/campaigns/*.py

audit: $(READY) ## look for known vulnerabilities of the packages; where PyPI is out of reach, it says so
	@$(BIN)/python scripts/audit.py

bench: $(READY) ## run every benchmark in turn
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

$(VENV)/.notebooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks]'
	@touch $@

notebooks: $(VENV)/.notebooks ## execute the notebooks; copies with outputs go to build/notebooks
	@$(BIN)/python scripts/run_notebooks.py

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs ## build the documentation site into docs/_build/html; a warning is an error
	@$(BIN)/python -m sphinx -b html -q -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean: ## remove the environment, caches and build outputs
	rm -rf $(VENV) docs/_build docs/api build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
