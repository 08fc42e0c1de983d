#!/bin/sh
# The MLflow server with users and passwords, its records in PostgreSQL, its files behind the server.
# Settings come from the environment (docs/cluster.md has the table). Runs in the container and on a plain machine.
set -eu

need() {
  eval "value=\${$1:-}"
  [ -n "$value" ] || { echo "$1 must be set: $2." >&2; exit 2; }
}
need MLFLOW_BACKEND_STORE_URI "postgresql+psycopg2://USER:PASSWORD@HOST:PORT/mlflow"
need SOMGRAD_AUTH_DATABASE_URI "the same for the database of users, postgresql+psycopg2://.../mlflow_auth"
need MLFLOW_ARTIFACTS_DESTINATION "s3://BUCKET/PATH, or a folder"
need MLFLOW_AUTH_ADMIN_PASSWORD "the password of the first user, admin; 12 characters or more"
need MLFLOW_FLASK_SERVER_SECRET_KEY "a random text that stays the same over restarts"

umask 077
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH MLFLOW_AUTH_ADMIN_USERNAME="${MLFLOW_AUTH_ADMIN_USERNAME:-admin}"
export MLFLOW_DISABLE_TELEMETRY=true GIT_PYTHON_REFRESH=quiet MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nauthorization_function = %s\n' \
  "$(printf %s "$SOMGRAD_AUTH_DATABASE_URI" | sed 's/%/%%/g')" \
  mlflow.server.auth:authenticate_request_basic_auth >"$MLFLOW_AUTH_CONFIG_PATH"

# Tables are made, or brought to this version, by one process before several use them.
python -c '
import os
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
' || mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
python -m mlflow.server.auth db upgrade --url "$SOMGRAD_AUTH_DATABASE_URI"

# The store is read from the environment: an argument, with its password, would be shown to all by ps.
exec mlflow server --app-name basic-auth \
  --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" \
  --artifacts-destination "$MLFLOW_ARTIFACTS_DESTINATION" \
  ${MLFLOW_SERVER_ALLOWED_HOSTS:+--allowed-hosts "$MLFLOW_SERVER_ALLOWED_HOSTS"}
