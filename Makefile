# One command each; the first use makes the virtual environment with the pinned versions.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)      ## the whole method on a small generated kitchen; writes demo/report.html
	$(BIN)/antcache demo --output demo --overwrite

test: $(READY)      ## every test that needs no GPU; a process for each core, each with one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not gpu"

lint: $(READY)      ## ruff, and mypy against the installed package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .typecheck build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target .typecheck .
	rm -rf build
	cd .typecheck && MYPYPATH=. $(abspath $(BIN))/mypy --config-file ../pyproject.toml -p antcache

bench: $(READY)     ## every benchmark, results recorded, the README's tables rewritten
	for file in $(filter-out %/record.py %/forked.py %/tables.py %/ek55.py %/kernel_plot.py %/teacher_runs.py %/simulated.py %/distillation_runs.py %/training_reference.py %/mutants.py %/mutation_lines.py %/mutation_tests.py %/mutation_worker.py,$(wildcard benchmarks/*.py)); do \
		$(BIN)/python $$file --record || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

clean:              ## everything that is made, the virtual environment included
	rm -rf $(VENV) .typecheck build demo *.egg-info

$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "antcache needs Python 3.11 or later; try: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt setuptools wheel
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[all,dev]'
	touch $@
