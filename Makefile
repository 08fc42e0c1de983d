# Every target needs only Python >= 3.11 and make; the first one used sets up .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed$(if $(LOCKED),-locked)
LAYERS := architecture unit laws golden equivalence robustness infra system cluster
TESTS  := $(wildcard $(addprefix tests/,$(LAYERS)))
DOCS   := tests/system/test_readme.py tests/unit/test_examples.py tests/unit/test_hyperparameter_docs.py
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' somcore/__init__.py)
# Tests run in so many processes, each file in one; 1 and more. Those on Ray use several cores by themselves.
PROCESSES ?= 2
PYTEST  = PYTHONHASHSEED=0 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
# LOCKED=1: what the tests ran with, by version and hash, instead of the newest that pyproject.toml allows.
LOCKED ?=
DIST   := dist

# Quiet, offline, repeatable.
export RAY_USAGE_STATS_ENABLED := 0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO := 0
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pip compiles nothing beforehand: the first process that imports a module keeps its bytecode for all others.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test lint format demo clean docs-check dist lock licences sbom audit images $(addprefix test-,$(LAYERS))

help: ## this list
	@echo "somgrad $(VERSION): make <target>"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-10s  %s\n", $$1, $$2 }'
	@echo "  test-LAYER  one layer of tests: $(LAYERS)"

setup: $(STAMP) ## virtual environment in .venv, once; LOCKED=1: exactly what infra/requirements-dev.lock pins

$(STAMP): pyproject.toml $(if $(LOCKED),infra/requirements-dev.lock)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name it: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "somgrad needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())'). Name another: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "== setup: installing into $(VENV) (some minutes and 7 GB the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(LOCKED),)
	@$(BIN)/python -m pip install -qq --no-compile --require-hashes --requirement infra/requirements-dev.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
else
	@$(BIN)/python -m pip install -qq --no-compile --editable '.[dev]'
endif
	@touch $@

test: setup lint ## what CI runs: ruff, mypy, import rules, pytest by layer
	@echo "== tests, by layer: $(notdir $(TESTS))"
	@$(PYTEST) $(TESTS)

$(addprefix test-,$(LAYERS)): test-%: setup
	@$(PYTEST) tests/$*

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

docs-check: setup ## every command and example of README, docs and docstrings runs
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest $(DOCS)

dist: setup ## source archive and wheel in dist/
	@rm -rf dist/somgrad-* build
	@$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	@ls -l dist/somgrad-*

lock: setup ## pin what .venv has (after a green make test): infra/*.lock, with hashes
	@infra/release/lock.sh $(BIN)

licences: setup ## THIRD_PARTY_LICENSES.md, from what is pinned
	@infra/release/licences.sh $(BIN)

sbom: setup ## bill of materials of what is pinned (CycloneDX, dist/); needs no network
	@mkdir -p $(DIST)
	@$(BIN)/python infra/release/sbom.py infra/requirements.lock pyproject.toml $(DIST)/somgrad-$(VERSION).cdx.json
	@echo "$(DIST)/somgrad-$(VERSION).cdx.json"

audit: setup ## known vulnerabilities of what is pinned; asks a service, AUDIT='-s osv --osv-url URL' names another
	@infra/release/audit.sh $(BIN) infra/requirements.lock $(AUDIT)

images: ## container images (needs docker and TORCH_CPU_INDEX=the CPU index that pytorch.org names)
	docker build -f infra/docker/Dockerfile --target cpu -t somgrad:$(VERSION)-cpu --build-arg TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) .
	docker build -f infra/docker/Dockerfile --target cuda -t somgrad:$(VERSION)-cuda .
	docker build -f infra/docker/Dockerfile --target cloud -t somgrad:$(VERSION)-cloud .
	docker build -f infra/docker/mlflow.Dockerfile -t somgrad-mlflow:$(VERSION) .

clean: ## remove .venv, builds and caches (never results of runs)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find somcore pipeline jobs tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
