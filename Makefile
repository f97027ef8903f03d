# Two targets for a machine with nothing but Python >= 3.10, make and a C compiler.
#   make fit                                    fits the example photos
#   make fit IMAGES=dir OUT=dir ARGS="..."      fits your own; ARGS are options of fit.py
#   make test                                   lint, types and the whole test suite
PYTHON ?= python3
IMAGES ?= examples/photos
OUT ?= out
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

fit: $(VENV)/.installed
	$(RUN) fit.py --images $(IMAGES) --out $(OUT) $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m pytest

# torch first and alone: the pinned CPU build, before anything else can ask for a larger one
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt mypy pygltflib pytest ruff
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps human-body-prior==0.8.5.0 torchgeometry==0.1.2 configer==1.3.1
	touch $@

.PHONY: fit test
