# make run, make test: everything else is a part of these two. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed
COVERAGE_FLOOR := 92

# One thread a process: the graph and the tests already use every core.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup run serve dashboard demo test test-deploy lint coverage docs ui bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Remade only when what it is made from has changed: a second `make run` installs nothing.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3.11 or python3 on the PATH; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11; set PYTHON=..." >&2; exit 1; }
	@echo "installing into .venv (once; about two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check 'pip>=23.2.1'  # Debian 12's finds no solution
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(INSTALLED)  ## make .venv if it is missing or out of date

run: $(INSTALLED)  ## from the customer table to the chosen model and the call list
	@$(BIN)/churn run

serve: $(INSTALLED)  ## answer requests with the champion, on port 3000
	@$(BIN)/churn serve

dashboard: $(INSTALLED)  ## pages for the people who use the scores, on port 3001
	@$(BIN)/churn dashboard

demo: $(INSTALLED)  ## drift, a broken pipeline and an equal challenger against a real service and daemon
	@$(BIN)/python -m examples.demo

test: lint  ## the linters, then every test (the documentation site among them)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

test-deploy: $(INSTALLED)  ## what runs it for real, against real tools, which are installed first; not part of `make test`
	PYTHON=$(PYTHON) deploy/tools/install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope -m deploy --durations 10 churn_assets_tests/deploy

lint: $(INSTALLED)  ## style, complexity, types, layers, declared imports, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict -p churn_assets_tests
	$(BIN)/lint-imports
	$(BIN)/deptry churn_assets
	$(BIN)/deptry churn_assets_tests benchmarks docs examples --ignore DEP002,DEP004
	$(BIN)/codespell churn_assets churn_assets_tests benchmarks examples contracts docs *.md Makefile pyproject.toml

coverage: $(INSTALLED)  ## every test with coverage of the package; fails below the floor
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --cov --cov-report term --cov-fail-under $(COVERAGE_FLOOR)

docs: $(INSTALLED)  ## build the documentation site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

ui: $(INSTALLED)  ## Dagster's UI on the runs and assets of this home, on port 3002
	$(BIN)/churn ui

bench: $(INSTALLED)  ## measure, and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

clean:  ## remove caches and build products; keeps .venv, data/raw and data/var
	rm -rf build dist site .coverage *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .tmp_dagster_home_*
	find churn_assets churn_assets_tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
