# Every target sets itself up: a virtual environment of its own, made anew when pyproject.toml or
# the compiled kernels' sources change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := kernels/CMakeLists.txt $(wildcard kernels/csrc/*.h kernels/csrc/*.cpp)

# A user without a home: pip ends in a traceback, and caches need a place.
ifeq ($(HOME),)
export HOME := $(CURDIR)/.venv/home
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types check gpu-check clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

install: $(STAMP) ## Make the virtual environment and install everything that needs no GPU

$(STAMP): pyproject.toml $(NATIVE)
	@echo "Installing into $(VENV): a few minutes, about 7 GB."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP) ## Serve the demo model and name generated clips over gRPC
	$(BIN)/python bench/demo.py

test: $(STAMP) ## Run the tests, real server included
	$(BIN)/python -m pytest

lint: $(STAMP) ## Check style and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(STAMP) ## Check types
	$(BIN)/mypy

check: lint types test ## All of the above

gpu-check: ## On a machine with a GPU: tests, benches, engines and latency, one report in out/
	$(PYTHON) bench/gpu_check.py

clean: ## Remove the virtual environment and what runs left behind
	rm -rf $(VENV) out build dist
