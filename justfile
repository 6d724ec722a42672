# Recipes for working on moadim-mcp; `just` lists them. Without just, the commands below work as they are.

_default:
    @just --list

# Format, lint, and compile everything, tests included
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# Run tests; `just test cleanup::` for some of them
test *filter:
    cargo test {{filter}}

# Rewrite the golden files: tools' schemas, docs/configuration.md and the texts in tests/it/snapshots
bless:
    MOADIM_BLESS=1 cargo test --lib -- schemas:: reference_docs::
    INSTA_UPDATE=always cargo test --test it -- shown::

# Show the whole life of a routine in a throw-away home
demo:
    cargo run --release -- demo

# Show runs on Slurm, on a cluster of this machine (as root, with the packages slurmctld, slurmd, slurm-client and munge)
demo-slurm:
    cargo build --release --locked
    tests/slurm/demo "${CARGO_TARGET_DIR:-target}/release/moadim-mcp"

# Measure; `just bench trigger lists` for some rows
bench *rows:
    cargo bench --bench figures -- {{rows}}

# Check licences, duplicates and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny --locked check licenses bans sources

# Everything that CI does, as root for the tests of mounts
ci:
    bash .ci/run
