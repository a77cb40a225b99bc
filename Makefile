# MRSynth: set up and run everything from a clone. See README.md.
#
#   make demo [INPUT=my_t1.nii.gz] [OUTPUT=folder] [MODEL=checkpoint]    one brain through the main job
#   make test                                                            linters, type checker, all tests
#   make bench                                                           time and memory of the main job
#   make soak                                                            broken inputs and killed runs, in full; hours
#   make clean                                                           removes the environment and all output
#
# PYTHON=python3.12 picks the interpreter of the environment (3.10 or newer).

PYTHON ?= python3
VENV   ?= .venv
OUTPUT ?= demo_output

BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY  := $(VENV)/.mrsynth-ready

# Without an NVIDIA GPU the constraint keeps torch at the version that has a CPU build.
# Where pip's index offers both builds of it, pip takes the CPU one.
CONSTRAINT = $(shell nvidia-smi >/dev/null 2>&1 || echo -c constraints-cpu.txt)

.PHONY: setup demo test bench soak clean

setup: $(READY)

$(READY): pyproject.toml constraints-cpu.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "MRSynth needs Python 3.10 or newer; try: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; some minutes and about 2 GB) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINT) -e '.[demo,training,test]'
	@touch $@

demo: $(READY)
	@$(BIN)/python -m MRSynthLib.desktop.demo --output '$(OUTPUT)' $(if $(INPUT),--input '$(INPUT)') $(if $(MODEL),--model '$(MODEL)')

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m benchmarks

soak: $(READY)
	$(BIN)/python MRSynthExtension/MRSynth/Testing/Python/robustness inputs
	$(BIN)/python MRSynthExtension/MRSynth/Testing/Python/robustness headers --count 20000
	$(BIN)/python MRSynthExtension/MRSynth/Testing/Python/robustness kills --count 50
	$(BIN)/python MRSynthExtension/MRSynth/Testing/Python/robustness kills --count 20 --workers 2

clean:
	rm -rf $(VENV) $(OUTPUT) build MRSynthExtension/MRSynth/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
