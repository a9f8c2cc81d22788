# make demo and make test set up all they need: Python 3.11 or newer and a C compiler suffice.

PYTHON ?= $(shell for p in python3.11 python3 python3.14 python3.13 python3.12; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.qir-ready
# On two cores: a test often waits for a compiler or an emulator that it started.
JOBS ?= 3

.PHONY: demo test test-all lint bench clean

demo: $(READY)
	$(RUN) docs/examples/demo.py

test: lint
	$(RUN) -m pytest -q -n $(JOBS)

# With the tests that repeat on more machines what make test does on one of each kind.
test-all: lint
	$(RUN) -m pytest -q -n $(JOBS) -m ""

lint: $(READY)
	$(RUN) -m ruff check .

# Options for the benchmarks: make bench ARGS="resnet8 --threads 1"
bench: $(READY)
	$(RUN) -m pip install -q -c constraints.txt -e '.[bench]'
	$(RUN) -m tests.bench $(ARGS)

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis artifacts

# Written last, so a set-up that was cut off is done again; and again when the dependencies change.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found as python3 or python3.11 to 3.14" \
		"(hint: apt-get install python3 python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv module" \
		"(hint: apt-get install python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(RUN) -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@
