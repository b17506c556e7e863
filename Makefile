# Two commands: `make demo` and `make test`. Both set up .venv from requirements.lock first, once.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.ready
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = -1
# Small matrices on two cores: threads of BLAS that wait for each other cost more than they give.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test lint bench lock clean

$(SETUP): pyproject.toml requirements.lock setup.sh
	sh setup.sh $(PYTHON)

demo: $(SETUP)
	$(BIN)/python examples/demo.py

test: $(SETUP)
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(SETUP)
	for f in metastep secure_sums plan lnpdb; do $(BIN)/python benchmarks/$$f.py --json docs/benchmarks/$$f.json; done
	$(BIN)/python benchmarks/tables.py

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .jax_cache
