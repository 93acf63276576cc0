#!/bin/sh
# Prints values as they change, with nc:  follow.sh HOST PORT ID [PATTERN]
# Goes on after every cut, also its own, with exactly what it missed. put.sh fetches the unique ID.
set -eu
host=$1 port=$2 id=$3 pattern=${4:-*}
key=${LOCKSTEP_KEY:-$HOME/.lockstep-text-$id}
cursor=$key.cursor

while :; do
    since=$(cat "$cursor" 2> /dev/null || true)
    printf '%s\n%s\nfollow %s %s\n' "$id" "$(cat "$key")" "$pattern" "${since:+since $since}" | nc "$host" "$port" |
        while read -r word rest; do
            case $word in
            value) printf '%s\n' "${rest#* }" ;;
            gone) printf '%s is gone\n' "${rest#* }" ;;
            current) printf '%s\n' "${rest%% *}" > "$cursor" ;;
            refused | error | bye) printf '%s %s\n' "$word" "$rest" >&2 ;;
            esac
        done || true
    sleep 1
done
