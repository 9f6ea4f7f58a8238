# Everything a person or a CI machine does here. `make` alone lists it.
# ARGS passes options on: make demo ARGS="--help", make test ARGS="-k journal".

BIN := .venv/bin
# Most tests wait, for processes, time-outs and disks: more of them at a time than there are cores.
SIDE_BY_SIDE := -n 3 --dist worksteal

.DEFAULT_GOAL := help
# The stages of `test` stand in order, also under make -j.
.NOTPARALLEL:
.PHONY: help setup run-set-up tools-set-up test-set-up demo test test-fast long lint format types \
	contracts bench lock wheel install uninstall clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: test-set-up ## Prepare .venv and what the tests need

run-set-up:
	@scripts/setup run

tools-set-up:
	@scripts/setup tools

test-set-up:
	@scripts/setup test

demo: run-set-up ## Show the whole chain: simulated instruments to a verified database
	@$(BIN)/edgeagent demo $(ARGS)

test: test-set-up lint types contracts ## Run every check that CI runs
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-fast: tools-set-up ## Run the unit tests only
	$(BIN)/python -m pytest tests/unit $(ARGS)

long: test-set-up ## Run the tests that take minutes
	$(BIN)/python -m pytest -m long $(ARGS)

lint: tools-set-up ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: tools-set-up ## Mend style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: tools-set-up ## Check types
	$(BIN)/mypy

contracts: tools-set-up ## Check which package imports which
	$(BIN)/lint-imports --no-logo

bench: tools-set-up ## Measure speed against floors and peers
	$(BIN)/python -m bench $(ARGS)

# Keeps versions that still fit; ARGS=--upgrade takes the newest, ARGS="--upgrade-package NAME" one.
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --fork-strategy fewest \
	--python-version 3.11 --only-binary :all: --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --no-header

lock: tools-set-up ## Bring requirements/ up to date with pyproject.toml
	$(LOCK) --extra demo --group build --output-file requirements/run.txt $(ARGS)
	$(LOCK) --extra demo --group dev --constraint requirements/run.txt \
		--output-file requirements/dev.txt $(ARGS)
	$(LOCK) --constraint requirements/run.txt --output-file requirements/service.txt $(ARGS)

wheel: tools-set-up ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

install: run-set-up ## Install the service on this machine, or below DESTDIR= (as root)
	@DESTDIR="$(DESTDIR)" scripts/install

uninstall: ## Stop and remove the service; records and configuration stay (as root)
	@DESTDIR="$(DESTDIR)" scripts/uninstall

clean: ## Remove everything that was made here, .venv included
	rm -rf .venv dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
