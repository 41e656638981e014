# make demo   train on drawn shapes and look at the result (runs/demo/report.html)
# make test   the tests, on both backends
# make check  format, lint, types, import rules and the tests: what CI runs
# make parity, make soak, make test-isa, make fuzz   the long checks: torchvision's numbers; kills, devices, memory;
#             processors; hostile files
# Needs Python 3.11 or newer and make; everything else goes into .venv. Another Python: make PYTHON=/path/to/python demo

SHELL := /bin/bash
BIN := .venv/bin
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n < 4 ? n : 4 )))
CONSTRAINTS ?= constraints.txt  # versions for Python 3.11; CONSTRAINTS= takes the newest that pyproject.toml allows
# The first of these that is new enough; a broken or old one is passed over.
CANDIDATES := python3.11 python3.12 python3.13 python3 python
NEW_ENOUGH := -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
PYTHON ?= $(shell for python in $(CANDIDATES); do $$python $(NEW_ENOUGH) && { command -v $$python; break; }; done)

.PHONY: demo test test-tensorflow test-jax check format lint types imports clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,6s/^# //p' Makefile

# `make .venv` alone sets everything up; it is rebuilt when the requirements change.
.PHONY: .venv
.venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@if ! $(if $(PYTHON),"$(PYTHON)",false) $(NEW_ENOUGH); then \
	  echo "error: needs Python 3.11 or newer with venv and ensurepip (found: $(or $(PYTHON),none)); install one" \
	    "(Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; exit 2; fi
	@echo "Setting up .venv with $$("$(PYTHON)" --version) (a few minutes, about 3 GB of packages)"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(strip $(CONSTRAINTS))) \
	  --editable '.[jax,dev]'
	@touch $@

demo: .venv/.installed
	@$(BIN)/maskrcnn demo --out_dir runs/demo

test: test-tensorflow test-jax

test-tensorflow test-jax: test-%: .venv/.installed
	@echo "== tests under KERAS_BACKEND=$*"
	@KERAS_BACKEND=$* $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: format lint types imports test

format: .venv/.installed
	@$(BIN)/ruff format --check .

lint: .venv/.installed
	@$(BIN)/ruff check .

types: .venv/.installed
	@$(BIN)/pyright

imports: .venv/.installed
	@$(BIN)/lint-imports --no-logo

# The pages of docs/ as a site, in site/; needs no network.
.PHONY: docs
docs: .venv/.installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "look at site/index.html"

clean:
	rm -rf .venv runs site build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find maskrcnn tests scripts benchmarks -name __pycache__ -type d -exec rm -rf {} +

# The targets below take from half an hour to hours; .github/workflows/nightly.yml runs them.

.PHONY: parity
parity: .venv/.installed  # every stage against torchvision, on both backends; writes docs/parity.md
	@CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m tests.parity
	@$(BIN)/python -m tests.parity.cocoeval_oracle

# Tests marked slow, then kills, troubles, devices, memory, endurance and overfitting; one line each. One backend: make soak BACKENDS=jax
BACKENDS ?= tensorflow jax
KILLS ?= 5
.PHONY: soak
soak: .venv/.installed
	@failed=; \
	check() { "$$@" || failed="$$failed; $$*"; }; \
	for backend in $(BACKENDS); do \
	  KERAS_BACKEND=$$backend check $(BIN)/python -m pytest -q -m slow; \
	  for name in "kill --kills $(KILLS)" "kill --kills 50 --stand_in --warm" trouble devices memory "memory --tiny --steps 10000" endurance overfit; do \
	    check $(BIN)/python -m tests.soak.$$name --backend $$backend 2> >(tail -n 20 >&2); \
	  done; \
	done; \
	[ -z "$$failed" ] || { echo "soak failed$$failed" >&2; exit 1; }

# The tests with fewer instruction sets, one after another, a line each; one alone: make test-isa ISA=jax-avx2
# XLA and oneDNN obey these variables. What cannot be restricted: TensorFlow's Eigen kernels, whose instruction sets are
# fixed when it is built, and the compiled parts of NumPy beyond NPY_DISABLE_CPU_FEATURES, Pillow, hotcoco and pycocotools.
ISA ?= jax-avx2 jax-sse4 tensorflow-avx2 tensorflow-onednn-off tensorflow-onednn-on
XLA_ISA := --xla_cpu_max_isa
isa-jax-avx2 := KERAS_BACKEND=jax XLA_FLAGS=$(XLA_ISA)=AVX2
# jaxlib 0.10 cannot convert float16 without F16C ("Symbols not found: __extendhfsf2"), so half precision is left out.
isa-jax-sse4 := KERAS_BACKEND=jax XLA_FLAGS=$(XLA_ISA)=SSE4_2 PYTEST_ADDOPTS='-k "not float16 and not half_precision"'
isa-tensorflow-avx2 := KERAS_BACKEND=tensorflow ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=$(XLA_ISA)=AVX2
isa-tensorflow-onednn-off := KERAS_BACKEND=tensorflow TF_ENABLE_ONEDNN_OPTS=0
isa-tensorflow-onednn-on := KERAS_BACKEND=tensorflow TF_ENABLE_ONEDNN_OPTS=1

.PHONY: test-isa $(addprefix test-isa-,$(ISA))
test-isa: .venv/.installed
	@failed=; for name in $(ISA); do $(MAKE) --no-print-directory test-isa-$$name || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

$(addprefix test-isa-,$(ISA)): test-isa-%:
	@$(if $(isa-$*),,echo "error: no ISA $*; see the Makefile" >&2; exit 2;) log=$$(mktemp); \
	if env $(isa-$*) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder >$$log 2>&1; \
	then status=0; else status=1; grep -E '^(FAILED|ERROR)' $$log || tail -n 30 $$log; fi; \
	echo "$*: $$(grep -E '(passed|failed|error).* in ' $$log | tail -n 1)"; rm $$log; exit $$status

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

# Hypothesis over the doors for files from outside, FUZZ_SECONDS or FUZZ_EXAMPLES for each target; then all attacks, by kind
FUZZ_SECONDS ?= 60
FUZZ_EXAMPLES ?= 2000
.PHONY: fuzz
fuzz: .venv/.installed
	@FUZZ_SECONDS=$(FUZZ_SECONDS) KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q tests/fuzz/fuzz_*.py
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q tests/fuzz/test_guards.py
	@KERAS_BACKEND=tensorflow $(BIN)/python -m tests.fuzz

# Breaks the ops one line at a time, and counts the faults that the tests catch; some: make mutations WORDS="nms.py"
.PHONY: mutations
mutations: .venv/.installed
	@KERAS_BACKEND=tensorflow $(BIN)/python tests/mutations.py $(WORDS)
