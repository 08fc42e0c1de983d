#!/usr/bin/env bash
# Pins what this environment has, so what the tests ran with, by version and hash:
#   infra/requirements.lock       what somgrad needs to run; the images install it
#   infra/requirements-dev.lock   the same with the tools of the tests; `make setup LOCKED=1` installs it
#   infra/docker/{mlflow,cloud}.lock   what the MLflow server and the cluster launcher need beside it
# Called by `make lock`, after `make test` was green. Needs the package index for the hashes.
set -euo pipefail
bin="${1:?the bin directory of the environment}"
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-config)

"$bin/python" -m pip freeze --exclude-editable --all | grep -E '^[A-Za-z0-9._-]+==' > "$here/tested.txt"
compile() { # compile TARGET CONSTRAINTS ARGUMENT...
  local target=$1 constraints=$2
  shift 2
  "$bin/uv" pip compile "${options[@]}" -c "$constraints" -o "$here/one.lock" "$@" > /dev/null
  { echo "# Made by 'make lock'; not edited by hand."; cat "$here/one.lock"; } > "$here/new.lock"
  mv "$here/new.lock" "$target"
  rm "$here/one.lock"
  echo "$target: $(grep -cE '^[a-z0-9]' "$target") packages"
}
compile infra/requirements.lock "$here/tested.txt" pyproject.toml
compile infra/requirements-dev.lock "$here/tested.txt" --extra dev pyproject.toml
compile infra/docker/mlflow.lock "$here/tested.txt" infra/docker/mlflow.in
compile infra/docker/cloud.lock "$here/tested.txt" infra/docker/cloud.in
