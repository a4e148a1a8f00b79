PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo dashboard test test-browser chromium lint install benchmarks results sweep views tuning clean

demo: install  ## a real grid in four minutes, no network needed
	$(BIN)/bench run suites/quickstart.yaml --seeds 1 --fresh  # the package's own records would stand for it

dashboard: install  ## the board in a browser; STORE=DIR shows another store
	$(BIN)/bench dashboard $(if $(STORE),--store $(STORE))

install: $(STAMP)

PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --progress-bar off --root-user-action ignore

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV), once: some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[dev]' --constraint constraints.txt
	@touch $@

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-browser: install chromium  ## the dashboard in a real browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -m browser

chromium:  ## Debian's, unless CHROMIUM names one
	@if [ -n "$$CHROMIUM" ] || command -v chromium >/dev/null 2>&1; then exit 0; fi; \
	if ! command -v apt-get >/dev/null 2>&1; then \
		echo "The browser tests need Chromium: install it, or set CHROMIUM to its path." >&2; exit 1; fi; \
	if [ "$$(id -u)" -eq 0 ]; then as=; elif command -v sudo >/dev/null 2>&1; then as=sudo; else \
		echo "The browser tests need Chromium: as root, run  apt-get install chromium chromium-driver" >&2; exit 1; fi; \
	$$as apt-get update -qq && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmarks: install  ## speed: never part of the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks --benchmark-only

results: install  ## the page of results from the measured records; writes docs/results.md
	$(BIN)/python -m tests.benchmarks.results

sweep: install  ## the smallest network of every family of timm and torchvision; resumes, writes docs/networks.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.sweep $(SWEEP)

views: install  ## batch-norm loss of real images under each source's views, on every network; writes docs/zoo.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.views $(VIEWS)

tuning: install  ## the suites that chose the sources' presets; resumes, writes docs/methods/tuning.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.tuning $(TUNING)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
