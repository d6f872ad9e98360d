# A machine with Python 3.11+ and make is enough: each target makes its own .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

# One thread per process: two pytest workers on two cores, and timings that can be compared.
export OMP_NUM_THREADS ?= 1

# nbclient's own command cannot leave out the clock times that make every run differ from the last.
define EXECUTE_NOTEBOOK
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()
nbformat.write(notebook, sys.argv[1])
endef
export EXECUTE_NOTEBOOK

PYTEST_ARGS ?= -n 2
BENCHMARKS  ?= $(filter-out benchmarks/protocol.py benchmarks/fairlearn_suite.py benchmarks/_%,$(wildcard benchmarks/*.py))

# Stamps live in the environment, so they go when it goes, and are written last, so a failed install leaves none.
CREATED := $(VENV)/.created
RUN     := $(VENV)/.installed-run
DEV     := $(VENV)/.installed-dev

LOWEST_VENV  ?= .venv-lowest
LOWEST       := $(LOWEST_VENV)/.installed
LOWEST_TESTS ?= tests/data tests/constraints tests/metrics tests/reductions/test_wrapper.py \
  tests/boosting/test_estimator_checks.py
# Oracles that fairlearn 0.15 and scikit-learn 1.7 changed: they compare with the newer behaviour.
LOWEST_SKIP  ?= sample_weight_equivalence or is_fairlearn_s

# Packages that models are taken into or out of, each tested for real, in an environment of their own.
INTEGRATIONS_VENV  ?= .venv-integrations
INTEGRATIONS       := $(INTEGRATIONS_VENV)/.installed
INTEGRATIONS_TESTS ?= tests/integrations

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips must not write to one environment.
.NOTPARALLEL:
.PHONY: help demo test test-lowest test-integrations lint format bench docs notebook clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(RUN) ## train by every method on real mortgage decisions and write a report
	$(BIN)/fairtrain demo

test: lint ## lint, type-check, then run every test and doctest
	$(BIN)/python -m pytest $(PYTEST_ARGS) --ignore=tests/integrations

# Old packages beside newer ones that they need call deprecated names of these: no fault of ours.
test-lowest: $(LOWEST) ## run a part of the tests with the lowest versions that pyproject.toml declares
	$(LOWEST_VENV)/bin/python -m pytest $(PYTEST_ARGS) -W ignore::DeprecationWarning $(LOWEST_TESTS) \
	  -k 'not ($(LOWEST_SKIP))'

test-integrations: $(INTEGRATIONS) ## test with PyTorch Lightning, ONNX and the other packages that fairtrain works with
	DO_NOT_TRACK=true $(INTEGRATIONS_VENV)/bin/python -m pytest $(PYTEST_ARGS) $(INTEGRATIONS_TESTS)

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## run the benchmarks
	@test -n "$(strip $(BENCHMARKS))" || { echo "no benchmarks/*.py to run"; exit 1; }
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; PYTHONPATH=. $(BIN)/python $$file; done

docs: $(DEV) ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

notebook: $(DEV) ## rebuild demo.ipynb from demo.py and execute it
	$(BIN)/jupytext --quiet --update --to notebook --output demo.ipynb demo.py
	$(BIN)/python -c "$$EXECUTE_NOTEBOOK" demo.ipynb

clean: ## remove caches and builds
	rm -rf build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove the environment too
	rm -rf $(VENV) $(LOWEST_VENV) $(INTEGRATIONS_VENV)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fairtrain needs Python 3.11 or later: name one with 'make PYTHON=python3.11 ...'"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Enough to run the command: the library, its example data, torch and the CPU builds of the boosters, all pinned.
$(RUN): $(CREATED) pyproject.toml requirements.txt
	@echo "installing fairtrain into $(VENV) (a minute or two, once)"
	@grep -E '^(xgboost|lightgbm|torch=|jaxtyping)' requirements.txt > $(VENV)/methods.txt
	@$(PIP) install --constraint requirements.txt --requirement $(VENV)/methods.txt --editable '.[examples]'
	@touch $@

$(LOWEST): pyproject.toml tests/lowest.py
	@echo "installing the lowest versions into $(LOWEST_VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(LOWEST_VENV)
	@$(PYTHON) tests/lowest.py > $(LOWEST_VENV)/lowest.txt
	@$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check --no-input -qq install --requirement $(LOWEST_VENV)/lowest.txt
	@$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check --no-input -qq install --no-deps --editable .
	@touch $@

# The library and its tests as requirements.txt pins them, without lint, docs and notebook, and the packages themselves.
$(INTEGRATIONS): pyproject.toml requirements.txt requirements-integrations.txt
	@echo "installing what fairtrain works with into $(INTEGRATIONS_VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(INTEGRATIONS_VENV)
	@grep -E '^(xgboost|lightgbm|torch=|jaxtyping|lightning-fabric|pytest|hypothesis|beartype)' requirements.txt \
	  > $(INTEGRATIONS_VENV)/tests.txt
	@grep -v '^importlib-metadata=' requirements.txt > $(INTEGRATIONS_VENV)/constraints.txt  # MLflow wants an older one
	@$(INTEGRATIONS_VENV)/bin/python -m pip --disable-pip-version-check --no-input -qq install \
	  --constraint $(INTEGRATIONS_VENV)/constraints.txt --requirement $(INTEGRATIONS_VENV)/tests.txt \
	  --requirement requirements-integrations.txt --editable '.[examples]'
	@$(INTEGRATIONS_VENV)/bin/python -m pip check
	@touch $@

# Everything that requirements.txt pins; pip check compares the pins with the bounds in pyproject.toml.
$(DEV): $(CREATED) pyproject.toml requirements.txt
	@echo "installing fairtrain and its tools into $(VENV) (a few minutes, once)"
	@$(PIP) install --requirement requirements.txt
	@$(PIP) install --no-deps --editable .
	@$(BIN)/python -m pip check
	@touch $(RUN) $@
