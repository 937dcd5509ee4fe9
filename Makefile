# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11+ and pip are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Processes that share the tests, a file to each at a time; every one has a Ray cluster of its own.
JOBS ?= 2

.PHONY: demo test test-long lint check audit bench clean

demo: $(VENV)/installed
	$(BIN)/seewhy demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long"

# Machines killed, services that hang: minutes each, one at a time, for a change that touches what they watch.
test-long: $(VENV)/installed-test
	$(BIN)/python -m pytest -m long

lint: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What a change is checked by on the way: the quick tests alone.
check: lint audit
	$(BIN)/python -m pytest -m "not ray and not browser and not slow and not long"

# Known vulnerabilities of the pinned dependencies. pip-audit lives in an environment of its own, so that what it needs
# is not among what it looks at; without a network it cannot be asked, and that is said.
audit: $(VENV)/bin/python
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/python -m pip install --quiet pip-audit; } || true
	$(VENV)/bin/python .ci/audit.py $(VENV)/audit/bin/pip-audit

# img2dataset pins other versions than ours, so what fetch is measured beside lives in an environment of its own.
bench: $(VENV)/installed-test $(VENV)/beside/bin/img2dataset
	IMG2DATASET_PYTHON=$(VENV)/beside/bin/python $(BIN)/python tests/benchmarks/run.py

$(VENV)/beside/bin/img2dataset: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/beside
	$(VENV)/beside/bin/python -m pip install --quiet img2dataset

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first and by its exact version: the constraint names the CPU build's release, and a plain `torch` would
# bring gigabytes of GPU libraries. On a machine with a GPU, install the torch that fits it before `make`.
$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# grad-cam, which our maps are held against, asks for torchvision, which it does not need here and of which there is no
# build for every torch: so it goes in without its dependencies.
$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	$(BIN)/python -m pip install --quiet --no-deps grad-cam==1.5.7 ttach==0.0.3 opencv-python-headless==5.0.0.93
	touch $@

$(VENV)/installed-check: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,check]"
	touch $@

clean:
	rm -rf $(VENV) demo bench
