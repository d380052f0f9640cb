# make demo   the whole job on a phantom archive, ending in a data card
# make test   lint, types and the whole suite
# make bench  every benchmark behind docs/benchmarks.md
# make study  the design of the paper in miniature, ending in a report
# make docs   the documentation as a site, in site/
# Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
STUDY ?= study-results

.PHONY: demo test bench study docs lint clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

demo: .venv/ready
	@sh demo.sh $(BIN) $(DEMO)

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

bench: .venv/ready
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/shards.py
	$(BIN)/python benchmarks/measure.py
	$(BIN)/python benchmarks/identify.py
	$(BIN)/python benchmarks/estimates.py
	$(BIN)/python benchmarks/probes.py
	$(BIN)/python benchmarks/cards.py

study: .venv/ready
	$(BIN)/python study/run.py $(STUDY) $(STUDY_ARGS)

docs: .venv/ready
	$(BIN)/python -m properdocs build --strict --quiet -f mkdocs.yml
	@printf '%s\n' "$$(pwd)/site/index.html"

clean:
	rm -rf demo site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
