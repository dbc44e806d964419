# `make demo` and `make test` each set up all that they need from a bare clone, and are quick the second time.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SOURCES := $(wildcard ext/*/*.pyx ext/*/*.pxd ext/*/*.c ext/*/*.h)

.PHONY: demo test chaos chaos-cluster lint client lab docs dist bench clean
demo: $(READY)
	$(BIN)/snapserv demo $(if $(WEB),--web)

test: lint
	$(BIN)/python -m pytest -n auto

# Minutes of kills, restarts and corruption; SECONDS=600 SEED=7 for more of it.
SECONDS ?= 180
SEED    ?= 1
chaos: $(READY)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED)

# The same for a cluster of Ray's on this machine: servers, hosts, cells, the registry and machines.
chaos-cluster: $(READY)
	$(BIN)/python -m tests.cluster.chaos --seconds $(SECONDS) --seed $(SEED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The synchronous client, from the asyncio one.
client: $(READY)
	$(BIN)/python clients/python/generate_sync.py

lab: $(READY)
	$(BIN)/snapserv lab

# The documentation as a site, in build/site; a warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Source distributions, and wheels that install without a compiler on any Linux with as recent a C library as this one.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist/plain .
	$(BIN)/python -m build --quiet --outdir dist clients/python
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m auditwheel repair --wheel-dir dist dist/plain/*.whl
	mv dist/plain/*.tar.gz dist && rm -r dist/plain

bench: $(READY)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.cluster

$(READY): setup.py pyproject.toml clients/python/pyproject.toml $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ./clients/python -e '.[test]'
	# The oldest Gymnasium that is served, for the test that its spaces cross the wire too.
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/gymnasium-1.0 gymnasium==1.0.0
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info clients/python/*.egg-info clients/python/build
	find snapserv -name '*.so' -delete
