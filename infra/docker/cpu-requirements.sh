#!/usr/bin/env bash
# Splits the lock file (stdin) for a machine without a GPU:
#   torch  torch and torchvision, by version, for the CPU index that pytorch.org names
#   rest   everything but those two and the libraries of CUDA, with hashes
set -euo pipefail
case "${1:-}" in
  torch) awk '/^(torch|torchvision)==/ { print $1 }' ;;
  rest) awk '/^[a-zA-Z0-9]/ { keep = $0 !~ /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } keep' ;;
  *)
    echo "cpu-requirements.sh must be told torch or rest. Got '${1:-}'." >&2
    exit 2
    ;;
esac
