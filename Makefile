# Every verb of the repository. `make check` never writes to the tree; `make fix` is the only one that does.
CARGO ?= cargo
# How long each fuzz target runs.
SECONDS ?= 60
# The fuzz targets are a workspace of their own; see fuzz/src/lib.rs.
FUZZ = --manifest-path fuzz/Cargo.toml
FUZZ_DIR = $(or $(CARGO_TARGET_DIR),target)/fuzz

# Most tests wait for sockets and clocks: more of them at once than there are processors.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: run test chaos check fix bench bench-scale cluster fuzz fuzz-build fuzz-corpus

run: ## a whole cluster on loopback with simulated stores; Ctrl-C ends it with a verdict
	$(CARGO) run --release --locked -- demo

cluster: ## the same cluster without customers and without a killed node, to try things by hand
	$(CARGO) run --release --locked -- demo --rate 0 --calm --dir stockraft-demo

test: ## everything that is promised; root, mount and ip are needed where disks and networks fail
	$(CARGO) test --workspace --locked
	$(CARGO) test --locked --features planted-bugs --test planted --test planted_bugs

MINUTES ?= 5
chaos: ## three regions, everything that fails, all promises: `make chaos MINUTES=60`; SEED=7 repeats a plan
	MINUTES=$(MINUTES) SEED=$(SEED) $(CARGO) test --locked --test chaos -- --nocapture

check: ## format, lints, documentation, licences
	$(CARGO) fmt --all --check
	$(CARGO) fmt $(FUZZ) --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v $${CXX:-c++} >/dev/null; then \
	$(CARGO) clippy $(FUZZ) --target-dir $(FUZZ_DIR) --lib --bins --locked -- -D warnings; \
	else echo "skipped: no C++ compiler is installed, so the fuzz targets were not checked"; fi
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check bans licenses sources && \
	$(CARGO) deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources; \
	else echo "skipped: cargo deny is not installed, so licences and sources were not checked"; fi

fix: ## formats, and applies what clippy can mend
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all
	$(CARGO) fmt $(FUZZ)

bench: ## the figures of ARCHITECTURE.md, from this machine; next to redis-server where there is one
	$(CARGO) bench --locked --bench road
	$(CARGO) bench --locked --bench queue
	$(CARGO) bench --locked --bench window

SIZE ?= 1000000
bench-scale: ## what fits, and who waits for it; SIZE=20000 is a look of some seconds
	$(CARGO) bench --locked -p stockraft-state --bench scale -- $(SIZE)
	$(CARGO) bench --locked -p stockraft-state --bench allocation -- $$((5 * $(SIZE)))
	$(CARGO) bench --locked -p stockraft-state --bench queue -- $$((5 * $(SIZE)))
	$(CARGO) bench --locked --bench node -- $(SIZE)
	$(CARGO) bench --locked --bench queue -- $(SIZE)

fuzz: ## any bytes for every parser, every signature, the agreed state, frames and what is stored: `make fuzz SECONDS=5`; needs a C++ compiler
	SEED=$(SEED) fuzz/run $(SECONDS)

fuzz-build: ## builds them, and runs nothing
	fuzz/run 0

fuzz-corpus: ## where `make fuzz` begins, made anew of the samples and vectors
	$(CARGO) run $(FUZZ) --target-dir $(FUZZ_DIR) --locked --bin seeds
