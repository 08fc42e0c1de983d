#!/bin/sh
# Brings a backup back into empty databases and an empty place for files; then start the server (serve.sh upgrades
# the tables of an older version).
#   infra/mlflow/restore.sh BACKUP     with the variables of serve.sh set (. DIR/server.env)
set -eu
# shellcheck source=infra/mlflow/database.sh
. "$(dirname -- "$0")/database.sh"
fail() { echo "$*" >&2; exit 2; }
[ $# = 1 ] || fail "Usage: $0 BACKUP (a folder that backup.sh wrote)"
backup=$1
[ -f "$backup/SHA256SUMS" ] || fail "BACKUP must be a folder that backup.sh wrote. Got '$backup'."
for name in MLFLOW_BACKEND_STORE_URI SOMGRAD_AUTH_DATABASE_URI MLFLOW_ARTIFACTS_DESTINATION; do
  eval "[ -n \"\${$name:-}\" ]" || fail "$name must be set, as for serve.sh."
done

(cd "$backup" && sha256sum --quiet --check SHA256SUMS) || fail "'$backup' is damaged: the files above are not what was written."
for uri in "$MLFLOW_BACKEND_STORE_URI" "$SOMGRAD_AUTH_DATABASE_URI"; do
  count=$(on_database "$uri" psql -Atqc "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") ||
    fail "The database must exist, empty. Create it: createdb."
  [ "$count" = 0 ] || fail "The database must be empty: a restore never overwrites. Drop it and create it again (dropdb, createdb)."
done
on_database "$MLFLOW_BACKEND_STORE_URI" pg_restore --no-owner --exit-on-error --single-transaction "$backup/mlflow.dump"
on_database "$SOMGRAD_AUTH_DATABASE_URI" pg_restore --no-owner --exit-on-error --single-transaction "$backup/mlflow_auth.dump"
case $MLFLOW_ARTIFACTS_DESTINATION in
s3://*) rclone copy --quiet "$backup/artifacts" ":s3,env_auth=true${MLFLOW_S3_ENDPOINT_URL:+,provider=Other,endpoint='$MLFLOW_S3_ENDPOINT_URL'}:${MLFLOW_ARTIFACTS_DESTINATION#s3://}" ;;
*)
  mkdir -p "$MLFLOW_ARTIFACTS_DESTINATION"
  cp -a "$backup/artifacts/." "$MLFLOW_ARTIFACTS_DESTINATION/"
  ;;
esac
echo "Restored from $backup." >&2
