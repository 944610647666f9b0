# The only commands anyone needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
LOCK ?= cpu
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(LOCK)
IMAGE := $(VENV)/ilf.binpb

export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-crash lint format proto lock bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make the virtual environment from the lock (LOCK=gpu on a machine with NVIDIA GPUs)

$(INSTALLED): locks/$(LOCK).txt pyproject.toml locks/setup.sh
	PYTHON="$(PYTHON)" bash locks/setup.sh $(VENV) $(LOCK)
	@touch $@

demo: setup ## Word removal: two ILF iterations and the controls through all five services
	$(BIN)/ilf demo

test: setup ## All tests: the quick ones side by side, then real engines, training and crashes
	$(BIN)/pytest -n 2 --dist loadfile -m "not engine and not crash and not slow"
	$(BIN)/pytest -m "(engine or crash) and not slow"

test-fast: setup ## The quick tests only
	$(BIN)/pytest -n 2 --dist loadfile -m "not engine and not crash and not slow"

test-crash: setup ## The whole crash matrix
	$(BIN)/pytest -m "crash or slow"

lint: setup ## ruff, mypy, import contracts, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/generate.py --image $(IMAGE)
	cd protos && ../$(BIN)/buf lint ../$(IMAGE)

format: setup ## Format the code and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## Generate the stubs of all protos
	$(BIN)/python protos/generate.py

lock: setup ## Resolve pyproject.toml and locks/*.in anew
	$(BIN)/uv pip compile pyproject.toml locks/cpu.in --all-extras --excludes locks/excludes.txt \
		--python-version 3.11 --no-annotate --no-header -o locks/cpu.txt
	$(BIN)/uv pip compile pyproject.toml locks/gpu.in --all-extras --overrides locks/gpu-overrides.txt \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-annotate --no-header -o locks/gpu.txt

bench: setup ## Every benchmark, side by side with its alternative; results go to benchmarks/results
	for name in import_time engine_throughput batch_refine batch_rank judge_accuracy trainer; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.batch_refine --model demo
	$(BIN)/python -m benchmarks.orchestrator --rows 30000 300000 1000000

clean: ## Delete the state of services started here, and caches
	rm -rf .ilf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
