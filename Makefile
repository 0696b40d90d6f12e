# Two commands matter: `make run` and `make test`. `make help` lists all.

PYTHON      ?= python3
VENV        ?= .venv
PORT        ?= 8000
MODELS      ?= models
# Where there is no GPU, torch comes from PyTorch's index of CPU builds: elsewhere it brings gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ACCELERATOR ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run train test check-gpu lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## install, train the digits where there are no models yet, serve them on port 8000
	@if ! ls $(MODELS)/*/*/manifest.json >/dev/null 2>&1; then \
		$(BIN)/python -m trainer train digits --resume --models-dir $(MODELS); fi
	@exec $(BIN)/python -m service serve --models-dir $(MODELS) --port $(PORT)

train: $(VENV)/.installed ## train the digits and publish the next version
	$(BIN)/python -m trainer train digits --models-dir $(MODELS)

test: $(VENV)/.installed-dev lint ## lint, types, the whole test suite
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

check-gpu: $(VENV)/.installed-dev ## whatever needs a GPU: tests, training, serving, /compare; writes docs/results/gpu.md
	$(BIN)/python -m benchmarks.gpu

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment and the caches; models stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Stillroom needs Python 3.11 or newer; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "python3-venv is missing; install it with: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The wheels of the two accelerators exclude each other: where the other's are, they go first.
$(VENV)/.accelerator-$(ACCELERATOR): $(VENV)/bin/pip
	@if ls $(VENV)/.accelerator-* >/dev/null 2>&1; then \
		$(BIN)/python -m pip uninstall --yes torch onnxruntime onnxruntime-gpu; \
		rm -f $(VENV)/.accelerator-* $(VENV)/.torch; fi
	@touch $@

# torch first and by itself, so that nothing else can choose its build.
$(VENV)/.torch: $(VENV)/.accelerator-$(ACCELERATOR) constraints.txt
ifeq ($(ACCELERATOR),cpu)
	$(PIP) --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX) torch
else
	$(PIP) torch
endif
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) --editable '.[$(ACCELERATOR),trainer]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[$(ACCELERATOR),trainer,dev]'
	@touch $@
