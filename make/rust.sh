# Checks, with the shell alone, that this machine's Rust is new enough: a clear word before minutes of building.

needed=
while read -r key equals value; do
    case "$key" in rust-version) needed=${value#\"} needed=${needed%%\"*} ;; esac
done < Cargo.toml

if ! version=$(rustc --version 2>/dev/null); then
    echo "Rust is missing: install $needed or newer from https://rustup.rs, then open a new shell." >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    echo "A C compiler is missing: install one that answers to cc (on Debian: apt-get install gcc libc6-dev)." >&2
    exit 1
fi

found=${version#rustc }
found=${found%% *}
found=${found%%-*}
IFS=. read -r found_major found_minor rest <<END
$found
END
IFS=. read -r needed_major needed_minor rest <<END
$needed
END
if [ "$found_major" -lt "$needed_major" ] ||
    { [ "$found_major" -eq "$needed_major" ] && [ "$found_minor" -lt "$needed_minor" ]; }; then
    echo "Rust $found is too old: $needed or newer is needed. With rustup: rustup update stable" >&2
    exit 1
fi
