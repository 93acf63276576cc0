#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while, beginning with the corpus in fuzz/corpus. A finding is kept in target/fuzz/found,
# told, and fails. Called by `make fuzz` and `make soak`. LOCKSTEP_FUZZ_SECONDS: how long each runs.
#
# What cargo-fuzz does, without having to install it, on a stable compiler: coverage by LLVM's own pass, checks of overflows on, no sanitizer,
# as there is no unsafe code in what is fuzzed.
set -eu

seconds=${LOCKSTEP_FUZZ_SECONDS:-300}
target=${CARGO_TARGET_DIR:-target}/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')
command -v c++ >/dev/null || { echo "The fuzzer is built with a C++ compiler (c++), and there is none."; exit 1; }

flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
# The same versions as everywhere else, and the fuzzer beside them.
cp Cargo.lock fuzz/Cargo.lock
RUSTFLAGS=$flags cargo build --release --manifest-path fuzz/Cargo.toml --target "$triple" --target-dir "$target"

failed=()
for name in native link names text; do
    mkdir -p "$target/corpus/$name" "$target/found"
    echo "== $name for $seconds s"
    # What is new goes into the first directory; the second is only read.
    "$target/$triple/release/$name" "$target/corpus/$name" "fuzz/corpus/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=20000 -artifact_prefix="$target/found/$name-" -verbosity=0 -print_funcs=0 || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something in: ${failed[*]}; see $target/found, and put it into fuzz/corpus once it is mended"
    exit 1
fi
echo "the fuzzer found nothing"
