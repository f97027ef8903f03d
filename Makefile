# Targets for a machine with nothing but Python >= 3.10, make and a C compiler.
#   make fit                                    fits the example photos
#   make fit IMAGES=dir OUT=dir ARGS="..."      fits your own; ARGS are options of fit.py
#   make train                                  makes people, trains the small network on them, evaluates it
#   make train CONFIG=try                       the same in a few minutes, to see that it works
#   make test                                   lint, types and the whole test suite
#   make docs                                   the documentation as a site, into site/
PYTHON ?= python3
IMAGES ?= examples/photos
OUT ?= out
CONFIG ?= synthetic
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip install -q --disable-pip-version-check

fit: $(VENV)/.installed
	$(RUN) fit.py --images $(IMAGES) --out $(OUT) $(ARGS)

train: $(VENV)/.installed-build
	$(RUN) train.py --config $(CONFIG) $(ARGS)
	$(RUN) train.py --config $(CONFIG) $(ARGS) --mode evaluate --start runs/$(CONFIG)/best.pt

test: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m pytest

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

# torch first and alone: the pinned CPU build, before anything else can ask for a larger one
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-build: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[build]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -c constraints.txt bvhio latex2mathml mkdocs-material mypy pygltflib pytest ruff viser
	-! command -v npm >/dev/null || npm install --silent --no-save --prefix $(VENV) gltf-validator@2.0.0-dev.3.10
	$(PIP) --no-deps human-body-prior==0.8.5.0 torchgeometry==0.1.2 configer==1.3.1
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[docs]'
	touch $@

.PHONY: docs fit test train
