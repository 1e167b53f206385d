# Everything a person or CI does here. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo learn test test-newest newest-python test-rust test-python fuzz miri lint msrv format docs bench bench-models bench-policy bench-loop bench-h100 bench-scale bench-rust bench-realtime cpp-library cpp-install cpp-example cpp-header wheel-check wheels lint-workflows reproducible third-party lock clean build

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("pioxide needs Python 3.11 or later, found " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# What `pip install "pioxide[data,report]"` would bring; pioxide itself is built here.
define DEMO_NEEDS
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["data"], *extras["report"])
endef
export DEMO_NEEDS

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet "maturin>=1.14,<2" $$($(BIN)/python -c "$$DEMO_NEEDS")
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps "openpi-client==0.1.2" # it asks for NumPy 1, and works with 2
	@touch $@ $(VENV)/.demo

build: | $(BIN)/python ## Compile the Rust half into the environment
	@test -x $(BIN)/maturin || $(MAKE) --no-print-directory $(VENV)/.demo
	$(BIN)/python -m maturin develop --release --quiet --skip-install
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

demo: $(VENV)/.demo build ## Fit, tokenize and inspect the robot episodes that ship with pioxide
	$(BIN)/pioxide demo

test: test-rust test-python ## Run every test

# pyenv's commands are there for versions that are installed but not chosen, and fail: try each.
NEWEST ?= $(shell for python in python3.14 python3.13 python3.12 $$(ls -d "$$(pyenv root 2>/dev/null)"/versions/3.1[2-9]*/bin/python 2>/dev/null | sort -rV); do \
	"$$python" -c "" 2>/dev/null && { echo "$$python"; break; }; done)
newest-python:
	@test -n "$(NEWEST)" || { echo "no Python 3.12 or later found: give one as NEWEST=..."; exit 1; }

# What depends on JAX and Flax, and on the packages that are newer there; the rest is the same with either.
NEWEST_TESTS := $(addprefix tests/unit/test_,constrained.py cut_text_model.py device.py engine.py guidance.py images.py insulation.py \
  loader.py loader_cache.py loader_handover.py memory.py memory_model.py mistakes.py model_types.py models.py policy.py realtime.py \
  released.py subtasks.py training.py training_batch.py training_resume.py video.py weights_formats.py \
  weights_lora.py) $(addprefix tests/parity/test_,huggingface.py lerobot_policy.py recorded_models.py) tests/integration/test_load_models.py
test-newest: newest-python ## Run the tests of models and policies with the newest JAX and Flax, on Python 3.12 or later (NEWEST=python3.13)
	$(MAKE) --no-print-directory test-python PYTHON=$(NEWEST) VENV=.venv-newest TESTS="$(NEWEST_TESTS)"

test-rust: ## Run the Rust tests (no Python needed)
	cargo test --locked --quiet

test-python: $(VENV)/.dev build ## Run the Python tests
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(TESTS)

# Needs a nightly compiler and `cargo install cargo-fuzz`. What it finds stays below rust/fuzz/artifacts.
FUZZ_RUNS ?= 100000
FUZZ_TARGETS := $(basename $(notdir $(wildcard rust/fuzz/fuzz_targets/*.rs)))
fuzz: ## Search for inputs that break the core with cargo-fuzz; without it, mutate the corpus instead, and say so
	@if cargo +nightly fuzz --version >/dev/null 2>&1; then \
	  for target in $(FUZZ_TARGETS); do mkdir -p target/fuzz/$$target && \
	    cargo +nightly fuzz run --fuzz-dir rust/fuzz $$target target/fuzz/$$target rust/fuzz/corpus/$$target -- \
	      -runs=$(FUZZ_RUNS) -max_len=8000 -timeout=20 || exit 1; done; \
	else \
	  echo "SKIPPED: cargo-fuzz or a nightly compiler is not here (cargo install cargo-fuzz; rustup toolchain install nightly)"; \
	  PIOXIDE_MUTATIONS=$(FUZZ_RUNS) cargo test --locked --quiet --package pioxide-core --test fuzz_targets && \
	  PIOXIDE_MUTATIONS=$(FUZZ_RUNS) cargo test --locked --quiet --package pioxide-capi wild; \
	fi

miri: ## Interpret the unsafe code, with AVX2 and without it, and check every access (needs a nightly compiler with Miri)
	for flags in "" -Ctarget-feature=+avx2; do \
	  RUSTFLAGS=$$flags cargo +nightly miri test -p pioxide-core --lib small_chunks_have_the_portable_bits || exit 1; done

lint: $(VENV)/.dev build docs ## rustfmt, clippy, ruff, types, stubs, import order, the documentation's site
	cargo fmt --all --check
	rustfmt --check --edition 2024 rust/fuzz/fuzz_targets/*.rs
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m mypy.stubtest pioxide._core
	$(BIN)/lint-imports

docs: $(VENV)/.dev build ## Build the documentation's site below target/site, with every link checked
	$(BIN)/python tools/make_site.py target/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@! grep -rE '<(script|img|link)[^>]+(src|href)="?https?:' target/site --include='*.html' || { echo "these pages ask other hosts"; exit 1; }

# As Cargo.toml says, and the crates of the workspace inherit.
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
msrv: ## Compile every crate with the oldest Rust that Cargo.toml promises
	@rustup run $(MSRV) rustc --version || rustup toolchain install $(MSRV) --profile minimal
	rustup run $(MSRV) cargo check --locked --workspace

format: $(VENV)/.dev ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

learn: $(VENV)/.dev build ## Train small policies on simulated tasks and count their successes (hours on two cores; docs/learning.md)
	$(BIN)/python tools/learn.py

bench: $(VENV)/.dev build ## Time pioxide against the reference stack, in one process
	$(BIN)/python benches/tokens.py
	$(BIN)/python benches/job.py

bench-models: $(VENV)/.dev build ## Time compiling and a step of each model, in training and inference
	$(BIN)/python benches/models.py

bench-policy: $(VENV)/.dev build ## Time a policy by stage, and against the plain computation
	$(BIN)/python benches/policy.py

bench-loop: $(VENV)/.dev build ## Run the control loop on the clock, and say how late its ticks are
	$(BIN)/python benches/loop.py

bench-h100: $(VENV)/.dev build ## Predict what an H100 would take for each model, without one (needs jax[cuda13], else says so)
	JAX_PLATFORMS=cpu $(BIN)/python benches/h100.py

bench-scale: $(VENV)/.dev build ## Predict what training takes on 1 and 8 H100s, without one (needs jax[cuda13], else says so; minutes a row)
	JAX_PLATFORMS=cpu $(BIN)/python benches/scale.py

bench-rust: ## Time the Rust core by stage (criterion)
	cargo bench --locked -p pioxide-benches --bench stages

# The library for C and C++. CXX chooses the compiler; CMake's package is used where CMake is, else plain flags.
PREFIX ?= /usr/local
CPP := $(CURDIR)/target/cpp
cpp-library:
	cargo build --release --locked --quiet -p pioxide-capi

cpp-install: cpp-library ## Install libpioxide, its headers, CMake package and pkg-config file (PREFIX=/usr/local)
	rust/capi/install $(PREFIX)

cpp-example: cpp-library ## Build the C++ example with what is installed below target/cpp, and run it
	rust/capi/install $(CPP)
	@if command -v cmake >/dev/null; then \
	  cmake -S examples/cpp -B $(CPP)/build -DCMAKE_PREFIX_PATH=$(CPP) -DCMAKE_CXX_COMPILER=$(CXX) && cmake --build $(CPP)/build; \
	else \
	  mkdir -p $(CPP)/build && $(CXX) -std=c++20 -O2 -I$(CPP)/include examples/cpp/loop.cpp \
	    -L$(CPP)/lib -lpioxide -Wl,-rpath,$(CPP)/lib -o $(CPP)/build/loop; \
	fi
	$(CPP)/build/loop python/pioxide/demo/text.model

bench-realtime: $(VENV)/.dev build cpp-library ## Time the slowest of a million calls from Rust, C++ and Python (docs/realtime.md)
	cargo bench --locked --quiet -p pioxide-benches --bench realtime
	rust/capi/install $(CPP)
	$(CXX) -std=c++20 -O2 -Irust/capi/include benches/realtime.cpp -L$(CPP)/lib -lpioxide -Wl,-rpath,$(CPP)/lib -o $(CPP)/realtime
	$(CPP)/realtime python/pioxide/demo/text.model
	$(BIN)/python benches/realtime.py

cpp-header: ## Write pioxide.h again from the source
	PIOXIDE_WRITE_HEADER=1 cargo test --locked --quiet -p pioxide-capi header

# zig, which links for old systems, is 400 MB on disk, so it has an environment of its own.
WHEEL_VENV := .venv-wheels
export WHEEL_PYTHON := $(CURDIR)/$(WHEEL_VENV)/bin/python
$(WHEEL_VENV)/.ready: .ci/wheel-tools.txt
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_PYTHON) -m pip install --quiet -r $<
	@touch $@

wheel-check: $(WHEEL_VENV)/.ready ## Build wheel and sdist; use the wheel in an empty environment without Rust
	.ci/wheel-check

wheels: $(WHEEL_VENV)/.ready ## Build the wheels that can be built here into dist/, and say which can't
	.ci/wheels dist

lint-workflows: $(WHEEL_VENV)/.ready ## Check workflows and issue forms against their schema, and for what a stranger could misuse
	$(WHEEL_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(WHEEL_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(addprefix .github/ISSUE_TEMPLATE/,fault.yml wish.yml question.yml)
	$(WHEEL_VENV)/bin/zizmor --quiet --offline --config .github/zizmor.yml .github

reproducible: $(WHEEL_VENV)/.ready ## Build the committed wheel three times, and compare the bytes (three release builds)
	.ci/reproducible

third-party: $(VENV)/.dev ## Write the licences and the bill of materials of what the wheel contains, after Cargo.lock changed
	$(BIN)/python tools/third_party.py

lock: ## Pin the development environment again
	uv pip compile pyproject.toml --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	  --extra data --extra report --extra jax --extra weights --extra int8 --extra yaml --extra train --extra rlds --extra eval --extra serve --extra zenoh --extra ray --group dev --group docs --quiet -o requirements-dev.lock

clean: ## Remove everything that was built
	rm -rf $(VENV) $(WHEEL_VENV) target dist
