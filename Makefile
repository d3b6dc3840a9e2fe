# sidestep: `make run` serves, `make test` checks. Each makes its own virtual environment.

PYTHON ?= python3
UV ?= uv
PORT ?= 3000

RUN := .venv/bin
DEV := .venv-dev/bin
PIP_INSTALL := -m pip install --disable-pip-version-check --no-input --quiet

export BENTOML_DO_NOT_TRACK ?= True
export GRADIO_ANALYTICS_ENABLED ?= False

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-slow test-all check lock pages clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/installed ## Serve the embedded model on http://localhost:3000 (PORT=8080 for another)
	$(RUN)/sidestep serve --port $(PORT)

test: check ## Check, then run the quick tests (under 15 minutes on two cores)
	$(QUICK) tests/bench tests/cli tests/distill tests/pipeline
	$(QUICK) --ignore tests/bench --ignore tests/cli --ignore tests/distill \
		--ignore tests/pipeline
	OMP_NUM_THREADS=1 $(DEV)/pytest -m alone tests/sidestep

# On several cores, a file at a time. What trains goes first, in processes of its own: long trainings crash where
# TensorRT's or OpenVINO's libraries were loaded before.
QUICK := OMP_NUM_THREADS=1 $(DEV)/pytest -m "not slow and not browser and not alone" -n logical --maxprocesses 4 \
	--dist loadfile

test-slow: .venv-dev/installed ## Run the slow and the browser tests (needs Chromium and npm)
	OMP_NUM_THREADS=1 $(DEV)/pytest -m "slow and not browser" -n logical --maxprocesses 2 --dist loadfile
	$(DEV)/pytest -m browser

test-all: test ## Run every check and test
	$(MAKE) test-slow

check: .venv-dev/installed ## Lint, formatting, types and import directions
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/mypy
	$(DEV)/lint-imports

lock: ## Pin the newest allowed versions in locks/ (needs uv)
	$(UV) pip compile pyproject.toml $(LOCK) --upgrade --output-file locks/serve.txt
	$(UV) pip compile pyproject.toml $(LOCK) --upgrade --extra dev \
		--constraint locks/serve.txt --output-file locks/dev.txt
	$(UV) pip compile pyproject.toml $(LOCK) --upgrade --extra gpu --extra tensorrt-rtx \
		--no-emit-package onnxruntime --constraint locks/serve.txt --output-file locks/cuda.txt

LOCK := --quiet --group build --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

pages: .venv-dev/installed ## Write docs/help.md and docs/files.md from the code
	$(DEV)/python -m sidestep.cli.pages .

clean: ## Remove both environments and all caches; models, data and runs stay
	rm -rf .venv .venv-dev .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# An environment is installed when this file exists, written last: an interrupted install is done
# again, and so is one that is older than its lock. An environment whose interpreter is gone or was
# only half made is made anew.
.venv/installed: locks/serve.txt pyproject.toml
.venv-dev/installed: locks/dev.txt pyproject.toml
.venv/installed .venv-dev/installed:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "sidestep needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
			"Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@rm -f $@
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(@D)
	@echo "installing $< into $(@D)"
	$(@D)/bin/python $(PIP_INSTALL) --require-hashes -r $<
	$(@D)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
