# What contributors run. `just check` changes nothing; `just fix` may write.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Format, lints, tests, documentation, a minute each of simulation and fuzzing.
check: lint test doc simulate fuzz

# Format and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    @if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
        else echo "cargo-deny is not installed: licences and bans were not checked"; fi

# All tests that this machine has the programs for.
test:
    cargo test --workspace

# Documentation, without warnings.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# A minute of simulation in every world, from a seed that differs each time, and the small model check.
# A failing seed tells its story and is written to a file that `jangada sim --replay` runs.
simulate:
    cargo run --release -- sim --minutes 1 --seed random
    cargo run --release -- sim check --preset small

# Fuzzing, a minute over all targets; `just fuzz 600` takes ten minutes for each. Needs cargo-fuzz and a
# nightly toolchain.
fuzz seconds="7":
    @if command -v cargo-fuzz >/dev/null; then \
        cargo run -p jangada-fuzz --example seeds; \
        for target in $(cargo fuzz list --fuzz-dir fuzz); do \
            CARGO_PROFILE_RELEASE_STRIP=none \
            cargo +nightly fuzz run --fuzz-dir fuzz --features libfuzzer "$target" -- \
                -max_total_time={{seconds}} -malloc_limit_mb=64 -timeout=20 -print_final_stats=1; \
        done; \
    else echo "cargo-fuzz is not installed: nothing was fuzzed"; fi

# Rewrites what can be rewritten by a command: format, simple lints.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# Puts and the failover against a cluster of this machine, beside the machine's floors.
bench:
    cargo build --release
    rm -rf target/bench-cluster
    target/release/jangada dev --dir target/bench-cluster > target/bench-cluster.log & \
        trap "kill $!" EXIT; \
        until target/release/jangada get ready >/dev/null 2>&1; do sleep 0.2; done; \
        for clients in 1 64 1000; do \
            target/release/jangada bench put --dir target/bench-cluster --clients "$clients"; \
        done; \
        target/release/jangada bench failover --dir target/bench-cluster

# The consensus module and the log alone, beside their floors; docs/benchmarks.md says more.
bench-parts:
    cargo bench -p jangada-measure

# The same as continuous integration; installs foreign programs.
ci:
    .ci/run
