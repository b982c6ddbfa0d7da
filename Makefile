# `make` alone prints what can be done. Needs Python 3.11 or newer, make, and the network once.
#
#   PYTHON=python3.12    the interpreter the environment is made with
#   TORCH_INDEX=URL      another package index to take torch from (PyTorch's CPU index, say)
#   PORT=8866            where `make app` and `make lab` serve
#   ARGS='-k prune'      handed to pytest by `make test`, to the bench by `make bench`

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRA_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# The first interpreter that is new enough and can make an environment.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)

# Slider events without Nagle's 40 ms; JupyterLab refuses to run as root unless told.
LAB = --ServerApp.kernel_websocket_connection_class=widgets.serving.connection.PromptConnection \
	$(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help app lab test test-slow lint format bench notebooks clean

help:  ## what can be done
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

app: $(STAMP)  ## serve the workbench and print its address
	@exec $(BIN)/workbench app $(if $(PORT),--port $(PORT))

lab: $(STAMP)  ## open the notebooks in JupyterLab
	@OMP_WAIT_POLICY=PASSIVE exec $(BIN)/jupyter lab --notebook-dir=notebooks $(if $(PORT),--port $(PORT)) $(LAB)

test: $(STAMP)  ## run the tests, the browser's too
	@$(BIN)/python -m tests.chromium
	@exec $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(STAMP)  ## run the tests that take minutes
	@exec $(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP)  ## style, types and floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## let ruff tidy the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)  ## measure what the project promises, on this machine
	@exec $(BIN)/python -m tests.bench $(ARGS)

notebooks: $(STAMP)  ## run every notebook from top to bottom
	@exec $(BIN)/python -m pytest --nbmake notebooks $(ARGS)

clean:  ## delete caches and built files (not the environment)
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -exec rm -rf {} +

# Installed again whenever what it was made from changes.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found: install one" \
		"(Debian: apt-get install python3 python3-venv) or name it with make PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), once: a few minutes, 540 MB to download with the CPU build of torch (see README.md)."
	@$(BIN)/pip install --quiet --disable-pip-version-check $(EXTRA_INDEX) -c constraints.txt -e '.[dev]'
	@touch $@
