# podnet: two commands matter, `make lab` and `make test`. Both set up what they need first.
.PHONY: help setup lab test unit check fix bench kernel cluster chaos clean

PYTHON := .venv/bin/python
# The working directory must not shadow packages (a top-level `dns` would hide dnspython).
export PYTHONSAFEPATH := 1
PYTEST := $(PYTHON) -m pytest

help:
	@echo "make lab     boot a cluster, run lab 01 (pod to pod), take it down"
	@echo "make test    the whole test suite"
	@echo "make check   format, lint, types, import rules"
	@echo "make bench   measure, beside the references"
	@echo "make chaos   ten minutes of random kills under load, three times"
	@echo "make setup   install what is missing; leaves .venv/bin/podnet"

setup:
	@sh bootstrap.sh

lab: setup
	@$(PYTHON) labs/01-pod-to-pod/lab.py --walk

test: setup
	@sh tests/run

unit: setup
	@$(PYTEST) -n auto tests/unit tests/contract -m "not kernel and not cluster"

kernel: setup
	@$(PYTEST) tests -m kernel

cluster: setup
	@$(PYTEST) tests -m cluster

# Ten minutes of random kills under load, three times in a row; the seed of a failure is printed.
chaos: setup
	@for run in 1 2 3; do PODNET_CHAOS_SECONDS=600 $(PYTEST) -s tests/cluster/test_chaos.py || exit 1; done

check: setup
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/codespell

fix: setup
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup
	@.venv/bin/podnet bench

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
