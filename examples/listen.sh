#!/bin/sh
# Does something for each event of a connection: listen.sh [CONNECTION [EVENT]]
#
# In a pipe `siod listen` writes the lines of the local API, and it attaches again by itself when the daemon restarts.
set -eu

siod listen "${1:-chat}" --event "${2:-*}" --no-lifecycle | while read -r line; do
    args=${line#*'"args":'}
    printf '%s heard %s\n' "$(date +%T)" "${args%\}\}}"
done
