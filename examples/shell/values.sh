#!/bin/sh
# Reads the newest values from their files:  values.sh DIR
#
#   lockstep join LINK --values 'price*=/run/prices'
#   examples/shell/values.sh /run/prices
#
# A file is replaced as a whole, so whoever opens it reads one whole value. For a single value that is all: $(cat DIR/price).
set -eu
dir=${1:?usage: values.sh DIR}

for file in "$dir"/*; do
    # One that was removed since it was listed is no value any more.
    value=$(cat "$file" 2>/dev/null) || continue
    # In a file's name, %2F is a slash and %25 a percent sign; control characters stay as they are written there.
    name=$(printf '%s' "${file##*/}" | sed 's|%2F|/|g; s|%25|%|g')
    printf '%s %s\n' "$name" "$value"
done
