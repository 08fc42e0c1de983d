# Every target needs only Python >= 3.11 and make; the first one used sets up .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LAYERS := architecture unit laws golden equivalence robustness cluster system
TESTS  := $(wildcard $(addprefix tests/,$(LAYERS)))

# Quiet, offline, repeatable.
export RAY_USAGE_STATS_ENABLED := 0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO := 0
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup test lint format demo clean $(addprefix test-,$(LAYERS))

help: ## this list
	@echo "somgrad: make <target>"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'
	@echo "  test-LAYER one layer of tests: $(LAYERS)"

setup: $(STAMP) ## virtual environment in .venv, once; again when pyproject.toml changes

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name it: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "somgrad needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())'). Name another: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "== setup: installing into $(VENV) (some minutes and 7 GB the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

test: setup lint ## what CI runs: ruff, mypy, import rules, pytest by layer
	@echo "== tests, by layer: $(notdir $(TESTS))"
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest $(TESTS)

$(addprefix test-,$(LAYERS)): test-%: setup
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest tests/$*

lint: setup ## ruff, mypy, import rules
	@echo "== ruff"
	@$(BIN)/ruff check .
	@echo "== mypy (strict on somcore)"
	@$(BIN)/mypy
	@echo "== import rules"
	@$(BIN)/lint-imports --no-cache

format: setup ## sort imports, fix what ruff can fix
	@$(BIN)/ruff check --fix .

demo: setup ## sssom on digits at seven label fractions, two Ray workers, in MLflow
	@$(BIN)/python -m jobs.demo

clean: ## remove .venv, builds and caches (never results of runs)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find somcore pipeline jobs tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
