# What every change has to pass; the same as CI, to the letter.
ci:
    .ci/run

# A server, the daemon and two programs that share one connection, in ten seconds.
demo *arguments:
    cargo run --release --example demo -- {{arguments}}

fmt:
    cargo fmt

lint:
    cargo clippy --all-targets -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

test *arguments:
    cargo test {{arguments}}

# Writes docs/schema anew, from the types of the API. A test fails while it is stale.
schema:
    SIOD_SCHEMA=write cargo test --lib the_files_of_docs_schema

# Single steps by themselves: decode, encode, the ring.
bench *arguments:
    cargo bench --bench codec --bench ring -- {{arguments}}

# siod beside a splice relay, bridges on Node and Python, and no sharing; `just compare --help`.
compare *arguments:
    cargo run --release --manifest-path benches/compare/Cargo.toml --target-dir target -- {{arguments}}

# Looks for what nobody thought of, with one of the targets that `cargo fuzz list` names; needs cargo-fuzz and a C++ compiler.
fuzz target *arguments:
    cargo fuzz run --sanitizer none --target-dir target {{target}} -- {{arguments}}

# Licences and banned crates; needs cargo-deny.
deny:
    cargo deny check licenses bans sources

# target/packaging/*.deb; needs cargo-deb.
deb:
    packaging/build deb

# target/packaging/*.rpm; needs cargo-generate-rpm.
rpm:
    packaging/build rpm

# What the package does under a systemd that is booted for it; needs root, systemd-container, cargo-deb, cargo-generate-rpm.
systemd-test:
    SIOD_SYSTEMD_TEST=must cargo test --test systemd -- --nocapture
