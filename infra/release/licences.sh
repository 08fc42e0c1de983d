#!/usr/bin/env bash
# Writes THIRD_PARTY_LICENSES.md: every package of infra/requirements.lock with the licence it declares.
# Called by `make licences`, from an environment that holds them.
set -euo pipefail
bin="${1:?the bin directory of the environment}"
mapfile -t names < <(grep -oE '^[A-Za-z0-9][A-Za-z0-9._-]*==' infra/requirements.lock | tr -d '=')
{
  cat << 'HEAD'
# Third-party licences

somgrad itself is under the Apache License 2.0 (`LICENSE`) and contains no code of others. This is what it needs to run
on Linux: the packages of `infra/requirements.lock`, with the licence that each declares. The text of each is in the
package's own `dist-info` directory, also in the images. Made by `make licences`; not edited by hand.

Three packages declare nothing. What was read instead: `huey` and `skops` carry the MIT licence as a file; `cuda-toolkit`
is an empty package that only requires the `nvidia-*` ones. Those are proprietary: read NVIDIA's licences before you pass on
an image that contains them (`cuda` and `cloud` do, `cpu` does not).

HEAD
  "$bin/pip-licenses" --with-system --with-urls --format=markdown --packages "${names[@]}" | sed -E 's/ +\|/ |/g; s/-{4,}/---/g'
} > THIRD_PARTY_LICENSES.md.part
mv THIRD_PARTY_LICENSES.md.part THIRD_PARTY_LICENSES.md
echo "THIRD_PARTY_LICENSES.md: $(grep -c '^| ' THIRD_PARTY_LICENSES.md) lines"
