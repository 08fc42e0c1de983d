#!/bin/sh
# Keeps a copy of /runs in object storage, and brings from there what a pod needs. In the image of rclone, as user 1000.
#   mirror.sh data   the data sets, from $SOMGRAD_STORE/data to /data; then it ends
#   mirror.sh runs   first what /runs lacks, from $SOMGRAD_STORE/runs; then, every $SOMGRAD_MIRROR_S seconds and once
#                    more at the end, what is new in /runs, to the store
# The Secret somgrad-store sets SOMGRAD_STORE (store:bucket/prefix) and RCLONE_CONFIG_STORE_* (which store, and its keys).
# Nothing is ever deleted in the store: a lost volume must not become a lost copy. Checkpoints replace a whole file at a
# time and carry a digest, so what a copy has half is passed over on resuming.
set -eu
store="${SOMGRAD_STORE:?must be set by the Secret somgrad-store, e.g. store:bucket/somgrad}"
data="${SOMGRAD_DATA_DIR:-/data}"
runs="${SOMGRAD_RUNS_DIR:-/runs}"
ready="${SOMGRAD_MIRROR_READY:-/tmp/mirror-ready}"
every="${SOMGRAD_MIRROR_S:-30}"
export RCLONE_CONFIG="${RCLONE_CONFIG:-/tmp/rclone.conf}" RCLONE_CACHE_DIR="${RCLONE_CACHE_DIR:-/tmp/rclone}"

copy() { # copy FROM TO OPTION...: a folder that does not exist yet is an empty one
  rclone copy "$@" --retries 5 --transfers 8 --log-level NOTICE || {
    code=$?
    [ "$code" = 3 ] || return "$code"
  }
}
upload() {
  copy "$runs" "$store/runs" --exclude '*.part' --exclude '.lock' --exclude '/*/tune/**' ||
    echo "mirror: this copy of $runs failed; the next one tries again" >&2
}

case "${1:-}" in
  data)
    copy "$store/data" "$data"
    ;;
  runs)
    copy "$store/runs" "$runs" --ignore-existing
    trap 'upload; exit 0' TERM INT
    : > "$ready"
    while :; do
      sleep "$every" &
      wait $!
      upload
    done
    ;;
  *)
    echo "mirror.sh must be told data or runs. Got '${1:-}'." >&2
    exit 2
    ;;
esac
