#!/bin/sh
# A client in a shell script: gets an id, puts a value, reads it, changes it safely, and follows what others put.
#
#   HUB=http://localhost:7118 sh examples/shell/http.sh 7
#
# Where the hub wants an invite: INVITE=lsj1…, the link that `lockstep invite` prints.
# For a hub with HTTPS: CURL_CA_BUNDLE=hub-ca.pem, from `lockstep cert > hub-ca.pem` on its machine. The unique ID is kept
# in a file beside the script's other state and never stands on a command line, where others could read it.
set -eu
hub=${HUB:-http://localhost:7118}
id=${1:?usage: http.sh ID}
key=${KEY_FILE:-./lockstep-$id.netrc}

# The first time: the hub issues the unique ID, once.
if [ ! -s "$key" ]; then
    answer=$(curl -sS --fail-with-body -H 'Content-Type: application/json' -d "{\"id\": $id, \"invite\": \"${INVITE:-}\"}" "$hub/api/login") || {
        printf '%s\n' "$answer" >&2
        exit 1
    }
    unique_id=$(printf '%s' "$answer" | sed 's/.*"unique_id":"\([^"]*\)".*/\1/')
    (umask 077 && printf 'default login %s password %s\n' "$id" "$unique_id" >"$key")
fi
ask() { curl -sS --fail-with-body --netrc-file "$key" "$@"; }

# Put a value, read it, and change it only if nobody else did meanwhile.
ask -X PUT -H 'Content-Type: text/plain' --data-binary 'one' "$hub/api/values/demo/$id" >/dev/null
etag=$(ask -o /dev/null -D - "$hub/api/values/demo/$id" | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p')
ask -X PUT -H "If-Match: $etag" -H 'Content-Type: text/plain' --data-binary 'two' "$hub/api/values/demo/$id" >/dev/null
ask "$hub/api/values/demo/$id"
echo

# Follow: everything below demo/, then each change as it comes, for as long as SECONDS_TO_FOLLOW says.
ask -N --max-time "${SECONDS_TO_FOLLOW:-5}" -H 'Accept: text/event-stream' "$hub/api/values?prefix=demo%2F" 2>/dev/null |
    sed -n 's/^data: //p' || true
