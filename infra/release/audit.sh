#!/usr/bin/env bash
# Asks a database of known vulnerabilities about every pinned package. Called by `make audit`.
#   audit.sh BIN LOCK [OPTION...]    options go to pip-audit, e.g. -s osv --osv-url URL for a copy inside a network
# Exit codes: 0 none known, 1 some known (listed), 2 not all packages could be asked about: then nothing is promised.
set -uo pipefail
bin="${1:?the bin directory of the environment}"
lock="${2:?a lock file}"
shift 2
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
"$bin/pip-audit" --requirement "$lock" --disable-pip --progress-spinner off --timeout 15 --format json \
  --output "$here/report.json" "$@" > "$here/out.txt" 2> "$here/err.txt"
code=$?
if [ ! -s "$here/report.json" ]; then
  echo "audit: the database of vulnerabilities gave no answer, so NOTHING was checked: $(grep -v '^ *$' "$here/err.txt" | tail -n 1 | cut -c 1-200)" >&2
  exit 2
fi
count() { grep -o "\"$1\"" "$here/report.json" | wc -l; }
asked=$(count version)
skipped=$(count skip_reason)
if [ "$code" != 0 ]; then
  echo "audit: known vulnerabilities in packages of $lock:" >&2
  "$bin/python" -m json.tool "$here/report.json" | grep -E '"(name|version|id|fix_versions)"' | grep -B 2 -A 1 '"id"' >&2
  exit 1
fi
if [ "$skipped" != 0 ] || [ "$asked" = 0 ]; then
  echo "audit: $skipped packages are not in the database that was asked, so they were NOT checked ($asked were). Name another: make audit AUDIT='-s osv --osv-url URL'" >&2
  exit 2
fi
echo "audit: no known vulnerability in the $asked packages of $lock"
