# The README's commands. The environment is made once, and again when what it is made from changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo up test soak stop lint bench support clean
.DEFAULT_GOAL := help

help: ## Print this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[worker,transformers,executorch,postgres,github,otel,parquet,dev]'
	touch $@

demo: $(INSTALLED) ## Start the service, measure the seed matrix, print the table, stop
	$(BIN)/noisefloor up --submit examples/seed_matrix.yaml --exit

up: $(INSTALLED) ## Start the service with a local worker on SQLite, and leave it running
	$(BIN)/noisefloor up

test: lint ## Lint, then pass the tests on SQLite and on PostgreSQL
	$(BIN)/pytest

N ?= 10000
DATABASE ?= sqlite
GAP ?= 0.5
KERNELS ?= plain
SKEW ?= 0
soak: $(INSTALLED) ## Measure N cells on DATABASE under random SIGKILL; KERNELS=real, SKEW=3600
	$(BIN)/python -m tests.soak $(N) --database $(DATABASE) --gap $(GAP) --kernels $(KERNELS) --skew $(SKEW)

stop: N = 1000
stop: $(INSTALLED) ## Stop N workers past their lease, wake them, and count what they write late
	$(BIN)/python -m tests.soak $(N) --database $(DATABASE) --stop --lease 2

lint: $(INSTALLED) ## Style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## Compare the cost of the seed matrix with the scripts it replaces, and of claims by the queue
	$(BIN)/python benchmarks/seed_matrix.py
	$(BIN)/python -m benchmarks.claims

support: $(INSTALLED) ## Run every flow on every built-in subject and engine, and write docs/support.md
	$(BIN)/python docs/support.py

clean: ## Remove the environment and the local database
	rm -rf $(VENV) .noisefloor
