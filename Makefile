# Needs make, pip and Python 3.11 or later; everything else is installed into .venv. Overrides: `make run PYTHON=python3.12`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/bash

IS_RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach candidate,python3 python3.13 python3.12 python3.11 python,\
	$(shell $(candidate) -c '$(IS_RECENT)' >/dev/null 2>&1 && echo $(candidate))))
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := deploy/constraints-cpu.txt
# Where the tests look for the wheel that ours must be able to lie beside.
BESIDE := build/beside
# Where the engines are that `asterism bench engine` can be compared with.
PEERS := build/peers
# Where the other systems are that `make bench-graphs` can compare with.
GRAPH_PEERS := build/graph-peers
REQUEST ?= deploy/requests/boards.txt
WORKERS ?= 3
JOBS ?= 2
MINUTES ?= 60
FUZZ_S ?= 300
# More options of the training, such as --bfloat16 --compiled; see its --help.
TRAIN ?=
SCHEDULES ?= 20000
FIRST ?= 0
STORIES ?= 500
KILLS ?= 100
RESTARTS ?= 10
LOSSES ?= 20

.PHONY: help run test venv dev lint types imports unit format proto schema train train-apr evaluate bench bench-graphs \
	bench-figures bench-peers bench-gpu compare peers soak soak-sim soak-stories soak-faults soak-stars fuzz mutants mutation clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: venv ## install, start an orchestrator and three workers, solve the boards, stop everything
	$(BIN)/asterism run $(REQUEST) --workers $(WORKERS)

test: dev lint types imports unit ## install and run every check

venv: $(VENV)/.installed ## install what `make run` needs
dev: $(VENV)/.installed-dev $(BESIDE)/.fetched

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo 'Asterism needs Python 3.11 or later; none was found. Name one: make PYTHON=/path/to/python3' >&2; exit 2; fi
	@if ! $(PYTHON) -c '$(IS_RECENT)'; then echo "Asterism needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 2; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'No virtual environment could be made; Debian has it in the package python3-venv' >&2; exit 2; }

# The stamps make each install happen once, and again when what it reads has changed.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

$(BESIDE)/.fetched: | $(VENV)/.installed-dev
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(BESIDE) openai-agents==0.24.0
	@touch $@

lint: dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev ## both type checkers
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/basedpyright --pythonpath $(BIN)/python --level error

imports: dev ## the import contracts
	$(BIN)/lint-imports

unit: dev ## the tests
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

format: dev ## put the sources in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: dev ## write the generated code of the protocol
	$(BIN)/python protocol/generate.py

schema: dev ## write the schema of plan files
	$(BIN)/python -m asterism.planner.schema

train: venv ## train the shipped model for MINUTES; goes on from a checkpoint
	$(BIN)/python -m asterism.workers.training.train --minutes $(MINUTES) $(TRAIN)

train-apr: venv ## train a wider model on numbers to 99, as above
	$(BIN)/python -m asterism.workers.training.train --boards apr --minutes $(MINUTES) $(TRAIN)

evaluate: venv ## measure the shipped model on held-back boards
	$(BIN)/python -m asterism.workers.training.evaluate

bench: dev ## the overhead of an empty star
	$(BIN)/python -m tests.bench.overhead

bench-graphs: dev ## four graphs on each database, beside a sketch, and beside what `make bench-peers` installed
	$(BIN)/python -m tests.bench.graphs $(if $(wildcard $(GRAPH_PEERS)/.installed),--peers)

bench-figures: dev ## edits, idle workers, memory, restarts, lost leases
	$(BIN)/python -m tests.bench.figures

bench-peers: $(GRAPH_PEERS)/.installed ## install dask, Ray, LangGraph and DBOS, in an environment of their own

$(GRAPH_PEERS)/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(GRAPH_PEERS)
	$(GRAPH_PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		distributed ray langgraph langgraph-checkpoint-sqlite dbos psutil
	@touch $@

bench-gpu: dev ## the engine's table on a GPU, beside transformers; needs one
	$(BIN)/python -m tests.bench.gpu_table

compare: venv peers ## measure the engine on this machine, beside transformers and llama.cpp
	$(BIN)/asterism bench engine --peer '$(PEERS)/bin/python tests/bench/peers/transformers_batching.py' \
		--peer '$(PEERS)/bin/python tests/bench/peers/llama_cpp_q8.py'

peers: $(PEERS)/.installed ## install other engines to compare with, in an environment of their own

$(PEERS)/bin/python: | $(VENV)/bin/python
	$(PYTHON) -m venv $(PEERS)

# transformers and torch in the versions that ours is tested with; llama.cpp is built for this machine, some ten minutes.
$(PEERS)/.installed: $(PEERS)/bin/python $(CONSTRAINTS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) torch transformers accelerate
	CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF' \
		$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) llama-cpp-python gguf
	@touch $@

soak: soak-sim soak-stories soak-faults soak-stars ## the long runs: the four that follow

soak-sim: dev ## SCHEDULES schedules of the fault simulation, from seed FIRST
	ASTERISM_SIM_SCHEDULES=$(SCHEDULES) ASTERISM_SIM_FIRST=$(FIRST) $(BIN)/python -m pytest -q -n $(JOBS) tests/sim

# A test of these may well take longer than what pyproject.toml takes for a deadlock.
soak-stories: dev ## STORIES stories of 50 steps of each state machine: all of the core, edits, leases and fences, requests
	ASTERISM_STORIES=$(STORIES) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -o faulthandler_timeout=1800 \
		tests/core/test_machine_properties.py tests/core/test_edit_stories.py \
		tests/orchestrator/test_lease_stories.py tests/orchestrator/test_request_stories.py

soak-faults: dev ## real processes: KILLS kills, PostgreSQL restarted RESTARTS times, LOSSES leaders stopped
	ASTERISM_KILLS=$(KILLS) ASTERISM_RESTARTS=$(RESTARTS) ASTERISM_LOSSES=$(LOSSES) $(BIN)/python -m pytest -q -n 1 \
		-o faulthandler_timeout=1800 tests/e2e/test_many_kills.py tests/e2e/test_database_faults.py tests/e2e/test_postgres.py

soak-stars: dev ## 200,000 stars through one orchestrator that forgets: is it as small and as quick as in the beginning
	$(BIN)/python -m tests.bench.soak

fuzz: dev ## every door at which people's texts come in, FUZZ_S seconds each
	ASTERISM_FUZZ_S=$(FUZZ_S) $(BIN)/python -m pytest -q -n $(JOBS) $(shell git ls-files 'tests/**/test_*fuzz*.py')

mutants: dev ## does the simulation notice each mistake that is put into the code
	$(BIN)/python -m tests.sim.mutants

mutation: dev ## which changes of the core do its tests notice
	$(BIN)/python -m tests.mutation

clean: ## remove what was installed and built
	rm -rf $(VENV) build dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
