#!/bin/sh
# Puts one value with nc:  put.sh HOST PORT ID NAME VALUE
# The hub runs with --text; docs/text.md has every line that is said here. Needs the nc of OpenBSD (netcat-openbsd).
set -eu
host=$1 port=$2 id=$3 name=$4 value=$5
key=${LOCKSTEP_KEY:-$HOME/.lockstep-text-$id}

# The first time the hub issues a unique ID. It is on disk before it is used, and using it confirms it.
if ! [ -s "$key" ]; then
    umask 077
    printf '%s\n' "$id" | nc -N "$host" "$port" | sed -n 's/^issued //p' > "$key"
fi

answer=$(printf '%s\n%s\nput %s %s\nquit\n' "$id" "$(cat "$key")" "$name" "$value" | nc "$host" "$port")
case $answer in
*"
ok "*) ;;
*)
    printf '%s\n' "$answer" >&2
    exit 1
    ;;
esac
