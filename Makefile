# What there is to do here. Each goal works on a fresh clone; `make test` says what more it needs, and how to get it.
#
#   make demo    builds, and runs a hub and three agents on this machine
#   make build   the program: target/release/lockstep
#   make test    every test, in small sizes; also what continuous integration runs
#   make soak    the same tests in the sizes the project promises; hours
#   make fuzz    the fuzz targets, five minutes each; needs a C++ compiler
#   make bench   every figure that is a time or a ratio, side by side with peers
#   make peers   what `make bench` compares with and is not installed: Debian's packages, unpacked into target/peers
#   make lint    format, clippy and documentation, without a warning
#   make clean   removes all that was built

CARGO ?= cargo
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/lockstep

.PHONY: demo build test soak fuzz bench peers lint clean rust

demo: build
	$(BINARY) demo

build: rust
	$(CARGO) build --release --locked -p lockstep

test: rust
	bash make/test.sh

soak: rust
	LOCKSTEP_TEST_SIZE=soak bash make/test.sh

fuzz: rust
	bash make/fuzz.sh

bench: build
	$(CARGO) run --release --locked -p lockstep-bench

peers:
	bash make/peers.sh

lint: rust
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

clean:
	$(CARGO) clean

rust:
	@/bin/sh make/rust.sh
