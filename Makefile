# The commands of the README. `make VENV=/some/folder test` uses another environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# An editable install sees changed Python and YAML at once; these need it done anew.
BUILD  := pyproject.toml setup.py $(wildcard $(foreach end,pyx pxd h,src/convexp/*.$(end) src/convexp/ops/fast/*.$(end)))

.PHONY: run test bench sanitize notebook lint format clean

run: $(VENV)/.installed            ## train the default network and record it in MLflow
	$(BIN)/python -m convexp model=three_layer backend=fast

test: $(VENV)/.installed-test      ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

bench: $(VENV)/.installed          ## how fast is it? everything, beside PyTorch
	$(BIN)/python -m pip install -q -e '.[bench]'
	$(BIN)/python -m convexp task=bench task.report=benchmarks/RESULTS.md

# In an environment of its own, and not editable: the checkout keeps its extensions. Python does not
# free all it has at its end, and libraries that catch errors in C++ want its runtime loaded early.
sanitize: SANITIZED := .venv-sanitized
sanitize: export ASAN_OPTIONS := detect_leaks=0
sanitize:                          ## the op tests under AddressSanitizer, at each instruction set
	$(PYTHON) -m venv $(SANITIZED)
	rm -rf build
	CONVEXP_SANITIZE=address $(SANITIZED)/bin/python -m pip install -q --force-reinstall '.[test]'
	rm -rf build
	for isa in $${CONVEXP_ISA:-baseline avx2 avx512}; do CONVEXP_ISA=$$isa \
	    LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" \
	    $(SANITIZED)/bin/python -m pytest -q tests/ops tests/test_memory.py || exit 1; done

notebook: $(VENV)/.installed       ## open the course notebook
	$(BIN)/python -m pip install -q -e '.[notebook]'
	$(BIN)/python -m jupyterlab notebooks/convolutional_networks.ipynb

# cython-lint calls pycodestyle by its name.
lint: export PATH := $(abspath $(BIN)):$(PATH)
lint: $(VENV)/.installed-test      ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint src
	$(BIN)/mypy

format: $(VENV)/.installed-test    ## put everything into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:                             ## remove what builds and tests leave; keep runs and the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f src/convexp/*.so src/convexp/*.c src/convexp/ops/fast/*.so src/convexp/ops/fast/*.c

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(BUILD)
	$(BIN)/python -m pip install -e .
	touch $@

# The same environment with the test extra.
$(VENV)/.installed-test: $(BIN)/python $(BUILD)
	$(BIN)/python -m pip install -e '.[test]'
	touch $@ $(VENV)/.installed
