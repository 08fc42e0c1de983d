#!/bin/sh
# A backup of the tracking server: both databases and the files of its runs.
#   infra/mlflow/backup.sh TARGET      with the variables of serve.sh set (. DIR/server.env)
# TARGET appears whole or not at all. Records are dumped before files are copied, so no record is without its file;
# the server may go on. Needs pg_dump, and rclone where the files are in a bucket.
set -eu
# shellcheck source=infra/mlflow/database.sh
. "$(dirname -- "$0")/database.sh"
fail() { echo "$*" >&2; exit 2; }
[ $# = 1 ] || fail "Usage: $0 TARGET (a folder that does not exist yet)"
target=$1
[ ! -e "$target" ] || fail "TARGET must be a folder that does not exist yet. Got '$target'."
for name in MLFLOW_BACKEND_STORE_URI SOMGRAD_AUTH_DATABASE_URI MLFLOW_ARTIFACTS_DESTINATION; do
  eval "[ -n \"\${$name:-}\" ]" || fail "$name must be set, as for serve.sh."
done

umask 077
part=$target.part
rm -rf "$part"
mkdir -p "$part/artifacts"
trap 'rm -rf "$part"' EXIT
on_database "$MLFLOW_BACKEND_STORE_URI" pg_dump --format custom --no-owner --file "$part/mlflow.dump"
on_database "$SOMGRAD_AUTH_DATABASE_URI" pg_dump --format custom --no-owner --file "$part/mlflow_auth.dump"
case $MLFLOW_ARTIFACTS_DESTINATION in
s3://*) rclone copy --quiet ":s3,env_auth=true${MLFLOW_S3_ENDPOINT_URL:+,provider=Other,endpoint='$MLFLOW_S3_ENDPOINT_URL'}:${MLFLOW_ARTIFACTS_DESTINATION#s3://}" "$part/artifacts" ;;
*) [ ! -d "$MLFLOW_ARTIFACTS_DESTINATION" ] || cp -a "$MLFLOW_ARTIFACTS_DESTINATION/." "$part/artifacts/" ;;
esac
(cd "$part" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
mv "$part" "$target"
trap - EXIT
echo "$target: $(wc -l <"$target/SHA256SUMS") files." >&2
