#!/usr/bin/env bash
# Runs every test on a fresh clone: gets what tests need beyond git, make, cc and cargo, builds, tests, and says at the
# end what failed and what could not run. Called by `make test` and `make soak`.
#
# What is installed: Python packages, into target/venv only; Node packages, into target/node only. System packages only
# as root with CI=true; else the one command that installs them is printed, the tests that need them fail, and they are
# named.
set -u

size=${LOCKSTEP_TEST_SIZE:-small}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target" target
could_not_run=$PWD/target/could-not-run.txt
rm -f "$could_not_run"
failed=()

say() { printf '\n== %s\n' "$*"; }

# What each step printed, whole: a record of this run may keep only its beginning and its end.
logs=$PWD/target/test-logs
rm -rf "$logs"
mkdir -p "$logs"
set -o pipefail

# Runs one step; a failing one is remembered and does not keep the others from running.
step() {
    local what=$1
    shift
    say "$what"
    "$@" 2>&1 | tee "$logs/$what.log" || failed+=("$what")
}

# Of a step that failed: which tests, the seeds, and how each ended.
what_failed() {
    printf '\n== FAILED: %s (all of it in %s)\n' "$1" "target/test-logs/$1.log"
    grep -E '^test .* FAILED$|^error|^warning: unused|failed with seed' "$logs/$1.log" | head -20
    grep -A 6 "panicked at" "$logs/$1.log" | grep -v 'stack backtrace' | cut -c 1-600 | head -60
}

# --- What tests need beyond the build

missing_packages() {
    command -v rsync >/dev/null || echo rsync
    command -v nc >/dev/null || echo netcat-openbsd
    command -v curl >/dev/null || echo curl
    command -v strace >/dev/null || echo strace
    command -v systemd-analyze >/dev/null || echo systemd
    command -v python3 >/dev/null || echo python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
    command -v chromium >/dev/null || echo chromium
}

system_packages() {
    local packages install
    packages=$(missing_packages | tr '\n' ' ')
    packages=${packages% }
    [ -n "$packages" ] || return 0
    install="apt-get install -y --no-install-recommends $packages"
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $packages"
        # shellcheck disable=SC2086 # a list of words
        if DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq; then
            return 0
        fi
    fi
    command -v apt-get >/dev/null || install="your package manager, for: $packages"
    command -v apt-get >/dev/null && [ "$(id -u)" != 0 ] && install="sudo $install"
    advice="Some tests need programs that are not installed. To get them: $install"
    say "$advice"
}

python_packages() {
    local wanted=tests/requirements.txt stamp=target/venv/requirements.txt
    cmp -s "$wanted" "$stamp" && target/venv/bin/python -c 'import aiohttp, dirsync, pandas, prometheus_client, psutil, schemathesis, socketio' 2>/dev/null && return 0
    python3 -c 'import venv, ensurepip' 2>/dev/null || return 0
    say "Python packages into target/venv"
    rm -rf target/venv
    python3 -m venv target/venv &&
        target/venv/bin/pip install --quiet --requirement "$wanted" &&
        cp "$wanted" "$stamp"
}

node_packages() {
    local wanted=tests/package.json stamp=target/node/installed.json
    cmp -s "$wanted" "$stamp" && [ -d target/node/node_modules/socket.io-client ] && return 0
    { command -v node && command -v npm; } >/dev/null || return 0
    say "Node packages into target/node"
    rm -rf target/node
    mkdir -p target/node &&
        cp "$wanted" target/node/package.json &&
        npm install --prefix target/node --cache target/node/cache --ignore-scripts --no-package-lock --no-audit \
            --no-fund --no-update-notifier --loglevel=error &&
        rm -rf target/node/cache &&
        cp "$wanted" "$stamp"
}

advice=
system_packages
python_packages || advice+=" The Python packages of tests/requirements.txt could not be installed; pip says why above."
node_packages || advice+=" The Node packages of tests/package.json could not be installed; npm says why above."

# --- Build, then test

say "building the program and the tests ($size)"
cargo build --release --locked -p lockstep || exit 1
# Always the whole workspace, and of it the targets wanted: with other packages selected, other features of what they
# depend on would be, and all of that would be built once more.
tests=(cargo test --workspace --locked)
"${tests[@]}" --no-run || exit 1

export LOCKSTEP_BIN=$target/release/lockstep
case $LOCKSTEP_BIN in /*) ;; *) LOCKSTEP_BIN=$PWD/$LOCKSTEP_BIN ;; esac
export LOCKSTEP_COULD_NOT_RUN=$could_not_run
export LOCKSTEP_TEST_SIZE=$size

began=$SECONDS
# The targets that are no promise, by name: cargo can choose targets, but not leave one out.
others=()
for file in crates/*/tests/*.rs crates/*/tests/*/main.rs; do
    [ -e "$file" ] || continue
    name=${file%/main.rs}
    name=${name##*/}
    others+=(--test "${name%.rs}")
done
step "unit tests" "${tests[@]}" --lib --bins "${others[@]}" --no-fail-fast
step "examples in the documentation" "${tests[@]}" --doc --no-fail-fast
step "promises" "${tests[@]}" --test promises --no-fail-fast
tested=$((SECONDS - began))

[ "$size" = small ] || step "fuzzing" bash make/fuzz.sh
if [ "${CI:-}" = true ] || [ "$size" = soak ]; then
    step "from a fresh clone" "${tests[@]}" --test promises -- --ignored fresh_clone
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        step "lint" make --no-print-directory lint
    fi
fi

# --- What came of it

say "tests took $tested s"
if [ -s "$could_not_run" ]; then
    echo "These tests could not run:"
    sort -u "$could_not_run" | sed 's/^/  /'
    [ -z "$advice" ] || echo "${advice# }"
fi
if [ ${#failed[@]} -gt 0 ]; then
    for what in "${failed[@]}"; do what_failed "$what"; done
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all tests passed"
