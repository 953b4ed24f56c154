# Two commands matter: `make demo` and `make test`. Each sets everything up first and can be run in any order.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
# One torch thread per process: two gave no speed-up on models this small, and a passive wait keeps the other core free.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

# Much of a Ray test is waiting: two files at a time. A file stays on one worker, its session is started once.
# In order of names: the files with few tests, which are the longest, would come last otherwise, one after the other.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo paper-demo test test-all check bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mergefront needs Python 3.11 or newer, and none is on PATH; install one, or say: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: setup
	$(BIN)/mergefront demo --out runs/demo

paper-demo: setup
	$(BIN)/python -m benchmarks.paper --work runs/paper

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest $(TESTS)

test-all: check
	$(BIN)/python -m pytest $(TESTS) -m ''

bench: setup
	$(BIN)/python -m benchmarks.demo --out benchmarks/results/demo.json
	$(BIN)/python -m benchmarks.merge --work .bench --out benchmarks/results/merge.json

clean:
	rm -rf .venv build dist *.egg-info
