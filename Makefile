# make demo   train on drawn shapes and look at the result (runs/demo/report.html)
# make test   the tests, on both backends
# make check  format, lint, types, import rules and the tests: what CI runs
# Needs Python 3.11 or newer and make; everything else goes into .venv. Another Python: make PYTHON=/path/to/python demo

SHELL := /bin/bash
BIN := .venv/bin
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n < 4 ? n : 4 )))
# The first of these that is new enough; a broken or old one is passed over.
CANDIDATES := python3.11 python3.12 python3.13 python3 python
NEW_ENOUGH := -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
PYTHON ?= $(shell for python in $(CANDIDATES); do $$python $(NEW_ENOUGH) && { command -v $$python; break; }; done)

.PHONY: demo test test-tensorflow test-jax check format lint types imports clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,4s/^# //p' Makefile

# `make .venv` alone sets everything up; it is rebuilt when the requirements change.
.PHONY: .venv
.venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@if ! $(if $(PYTHON),"$(PYTHON)",false) $(NEW_ENOUGH); then \
	  echo "error: needs Python 3.11 or newer with venv and ensurepip (found: $(or $(PYTHON),none)); install one" \
	    "(Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@echo "Setting up .venv with $$("$(PYTHON)" --version) (a few minutes, about 3 GB of packages)"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[jax,dev]'
	@touch $@

demo: .venv/.installed
	@$(BIN)/maskrcnn demo --out_dir runs/demo

test: test-tensorflow test-jax

test-tensorflow test-jax: test-%: .venv/.installed
	@echo "== tests under KERAS_BACKEND=$*"
	@KERAS_BACKEND=$* $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

check: format lint types imports test

format: .venv/.installed
	@$(BIN)/ruff format --check .

lint: .venv/.installed
	@$(BIN)/ruff check .

types: .venv/.installed
	@$(BIN)/pyright

imports: .venv/.installed
	@$(BIN)/lint-imports --no-logo

clean:
	rm -rf .venv runs build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find maskrcnn tests scripts -name __pycache__ -type d -exec rm -rf {} +

.PHONY: parity
parity: .venv/.installed  # every stage against torchvision's numbers, on both backends; writes docs/parity.md (half an hour)
	@CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m benchmarks.parity

# What benchmarks/gpu.sh needs beside JAX and torch, for a machine without a network (Python 3.12, x86-64).
.PHONY: wheels
wheels:
	@$(or $(PYTHON),python3) -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
	  --platform manylinux2014_x86_64 --dest wheels --constraint constraints.txt keras namex optree pycocotools
	@ls wheels

.PHONY: performance
performance: .venv/.installed  # docs/performance.md and its plots from the saved measurements; measures nothing
	@$(BIN)/python -m benchmarks.performance
