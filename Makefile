# One environment, made here and reused until pyproject.toml or constraints.txt change: nothing to install by hand.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
READY := .venv/ready-$(shell cat pyproject.toml constraints.txt setup.py src/shoal/data/*.[ch] src/shoal/train/group/*.[ch] | cksum | cut -d' ' -f1)
RUN := .venv/bin/python
NAME ?= start

.PHONY: demo test check format docs bench clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo 'make demo            raw files to a served, watched, retrained model, on real data (3 minutes, then half a minute)'
	@echo 'make test            every test'
	@echo 'make check           format, lint, strict types, house rules'
	@echo 'make format          put the code into the house format'
	@echo 'make docs            run every code block of the documentation'
	@echo 'make bench NAME=start   one benchmark of benchmarks/, its bars as JSON lines'
	@echo 'make bench NAME=train   training beside its peers, the same way (half an hour; ARGS=--quick: a few minutes)'
	@echo 'make bench NAME=serve   the server beside its peers, the same way (20 minutes; ARGS=--quick: one)'
	@echo 'make bench NAME=predict offline prediction beside its peers (ARGS=--quick: a minute or two)'
	@echo 'make bench NAME=data    the loader beside its peers, in environments made under .bench (12 minutes; ARGS=--quick: one)'

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "shoal needs Python 3.11 to 3.13, found %d.%d; next: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo 'making the environment in .venv (a few minutes the first time)'
	@rm -f .venv/ready-*
	@test -x $(RUN) || $(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@.venv/bin/shoal demo

test: $(READY)
	@$(RUN) -m shoal.demo.fashion
	@$(RUN) -m pytest -m 'not slow and not cluster' --cov --cov-report=term:skip-covered
	@$(RUN) -m pytest -m 'slow and not cluster'
	@$(RUN) -m pytest -m cluster

check: $(READY)
	@$(RUN) -m ruff format --check --quiet .
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy
	@$(RUN) -m pytest tests/house -m 'not slow'

format: $(READY)
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

docs: $(READY)
	@$(RUN) -m pytest tests/house/test_docs.py

bench: $(READY)
	@$(RUN) benchmarks/$(NAME).py $(ARGS)

clean:
	rm -rf .venv .bench build dist
