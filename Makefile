# One command each; the first use makes the virtual environment with the pinned versions.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
VERSIONS  := 3.11 3.12 3.13 3.14
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin

# Hundreds of processes import the same packages: compiled once, torch alone loads in half the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs typecheck compiled install-check versions-check bench clean

demo: $(READY)      ## the whole method on a small generated kitchen; writes demo/report.html, predictions.html and .mp4
	$(BIN)/antcache demo --output demo --overwrite

# A process begins with its share of the files, one after another, so that what a file needs is made
# once; who is done takes from the others.
test: $(READY)      ## every test that needs no GPU; a process for each core, each with one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not gpu"

lint: typecheck     ## ruff, and mypy against the installed package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd .typecheck && MYPYPATH=. $(abspath $(BIN))/mypy --config-file ../pyproject.toml -p antcache

docs: typecheck     ## the documentation as a site, in site/; a warning is an error
	$(BIN)/python -m mkdocs build -q --strict

typecheck: $(READY) # the package as it is installed, its folders under their import names
	rm -rf .typecheck build
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation --target .typecheck .
	rm -rf build

compiled: $(READY)  # Python of the tests and of what they import, which all their processes would compile at once
	$(BIN)/python -m pytest -q --collect-only -m "not gpu" > /dev/null || true  # the tests will say

# From the registry's metadata alone, as on a machine with no wheels and no settings of its own: uv
# reads none of pip's. All extras at once: what they have in common can't then conflict in one.
install-check: $(READY)  ## do the pins resolve on every Python and platform, for every extra?
	for platform in $(PLATFORMS); do for version in $(VERSIONS); do \
		echo "Python $$version, $$platform"; \
		env -u UV_FIND_LINKS -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL \
			-u UV_CONSTRAINT -u UV_OVERRIDE MACOSX_DEPLOYMENT_TARGET=14.0 \
			$(BIN)/uv pip compile -q --no-config --python $(BIN)/python --python-version $$version \
			--python-platform $$platform --all-extras -c constraints.txt setup.py -o /dev/null || exit 1; \
	done; done

versions-check: $(READY) ## the oldest and the newest versions that setup.py allows, each tried; downloads 6 GB
	$(BIN)/python benchmarks/versions.py

bench: $(READY)     ## every benchmark, results recorded, the README's tables rewritten
	for file in $$(grep -l 'add_argument("--record"' benchmarks/*.py); do \
		$(BIN)/python $$file --record || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

clean:              ## everything that is made, the virtual environment included
	rm -rf $(VENV) .typecheck build site demo *.egg-info antcache-kernels/build antcache-kernels/*.egg-info

# The pip that comes with Python 3.11 takes twice as long to find its packages as the pinned one.
# Not compiled: most of 300 MB of Python is never imported, and what is, is compiled and kept then.
$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "antcache needs Python 3.11 or later; try: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt --upgrade pip
	$(BIN)/pip install -q -c constraints.txt setuptools wheel
	$(BIN)/pip install -q --no-compile -c constraints.txt --no-build-isolation -e '.[all,dev]'
	touch $@
