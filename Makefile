# `make` alone lists what there is. Each target works on a fresh machine: it makes the virtual
# environment that it needs. VENV may point elsewhere (CI keeps it between runs).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MANIFESTS := $(filter-out %/kustomization.yaml %-patch.yaml,$(wildcard deploy/kubernetes*/*.yaml))
# The variable: MkDocs Material 9 tells of another project at each build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
HOST ?= 127.0.0.1
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help run test check docs format lock bench docker clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.serve ## Serve on http://127.0.0.1:8000 (HOST=, PORT=)
	$(BIN)/xmore serve --host $(HOST) --port $(PORT)

test: $(VENV)/.develop ## Run all tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.develop ## Format, lint, types, Dockerfile, compose files, manifests, site
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.replicas.yml
	$(BIN)/kubernetes-validate --strict --quiet $(MANIFESTS)
	$(MKDOCS) --site-dir $(VENV)/site

docs: $(VENV)/.develop ## Build the site of docs/ into site/
	$(MKDOCS)

format: $(VENV)/.develop ## Format and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: $(VENV)/.develop ## Write the image's requirements.lock anew
	$(BIN)/python -m tools.lock > requirements.lock

bench: $(VENV)/.develop ## Measure against the targets (BENCH=--quick: the carried model, shorter)
	$(BIN)/python -m benchmarks $(BENCH)

docker: ## Build and run the container
	docker compose up --build

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml once everything that it names is installed.
$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check -e .
	touch $@

$(VENV)/.develop: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check -e '.[test,bench,check,train,docs]'
	touch $@ $(VENV)/.serve
