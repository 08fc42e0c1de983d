#!/bin/sh
# PostgreSQL and the MLflow server on this machine, without containers:
#   infra/mlflow/local.sh start DIR [PORT]     then:  . DIR/client.env
#   infra/mlflow/local.sh stop DIR
# Everything, passwords too, is in DIR. Needs the programs of PostgreSQL (apt-get install postgresql) and MLflow's
# on the PATH. Root starts the database as the user postgres, who must be able to reach DIR.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

say() { echo "$*" >&2; }
fail() { say "$*"; exit 2; }
[ $# -ge 2 ] || fail "Usage: $0 start|stop DIR [PORT]"
command=$1
mkdir -p "$2"
dir=$(CDPATH='' cd -- "$2" && pwd)
data=$dir/postgres

binaries=$(command -v initdb || true)
binaries=${binaries:+$(dirname "$(readlink -f "$binaries")")}
for found in /usr/lib/postgresql/*/bin; do # Debian keeps them off the PATH
  [ -n "$binaries" ] && [ -x "$binaries/psql" ] || [ ! -x "$found/psql" ] || binaries=$found
done
[ -n "$binaries" ] || fail "PostgreSQL is not installed: initdb is neither on the PATH nor below /usr/lib/postgresql. Install postgresql."

as_database() { # PostgreSQL refuses to run as root
  if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}
postgres_runs() { as_database "$binaries/pg_ctl" -D "$data" status >/dev/null 2>&1; }
began() { ps -o lstart= -p "$1" 2>/dev/null || true; } # a number alone may be another process by now
server_runs() {
  [ -f "$dir/server.pid" ] || return 1
  { read -r server; read -r since; } <"$dir/server.pid" || return 1
  [ -n "$since" ] && [ "$(began "$server")" = "$since" ]
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

start_database() {
  if [ ! -f "$data/PG_VERSION" ]; then
    mkdir -p "$data"
    if [ "$(id -u)" = 0 ]; then
      chown postgres "$data"
      as_database test -w "$data" || fail "The user postgres must be able to reach '$data'. Give a folder such as /var/tmp/tracking."
    fi
    umask 077
    random >"$dir/database.password"
    random >"$dir/admin.password"
    random >"$dir/secret.key"
    cp "$dir/database.password" "$data.pw"
    [ "$(id -u)" != 0 ] || chown postgres "$data.pw"
    as_database "$binaries/initdb" -D "$data" -U mlflow --pwfile "$data.pw" --auth scram-sha-256 -E UTF8 --locale C >"$dir/postgres.log"
    rm -f "$data.pw"
  fi
  postgres_runs || as_database "$binaries/pg_ctl" -D "$data" -w -t 120 -l "$data/server.log" \
    -o "-p $database_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start >/dev/null ||
    fail "PostgreSQL did not start; see $data/server.log."
}

start() {
  port=${1:-5000}
  if server_runs; then fail "It runs already. Stop it: $0 stop $dir"; fi
  python -c "import socket; socket.create_connection(('127.0.0.1', $port), 2)" 2>/dev/null && fail "Port $port is taken. Give another: $0 start $dir PORT"
  database_port=$((port + 1))
  start_database
  PGPASSWORD=$(cat "$dir/database.password")
  export PGPASSWORD
  for name in mlflow mlflow_auth; do
    "$binaries/psql" -h 127.0.0.1 -p "$database_port" -U mlflow -d postgres -Atqc "SELECT 1 FROM pg_database WHERE datname = '$name'" | grep -q 1 ||
      "$binaries/createdb" -h 127.0.0.1 -p "$database_port" -U mlflow "$name"
  done
  url=postgresql+psycopg2://mlflow:$PGPASSWORD@127.0.0.1:$database_port
  umask 077
  cat >"$dir/server.env" <<END
export MLFLOW_BACKEND_STORE_URI=$url/mlflow
export SOMGRAD_AUTH_DATABASE_URI=$url/mlflow_auth
export MLFLOW_ARTIFACTS_DESTINATION=$dir/artifacts
export MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$dir/admin.password")
export MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$dir/secret.key")
export MLFLOW_PORT=$port
END
  cat >"$dir/client.env" <<END
export MLFLOW_TRACKING_URI=http://127.0.0.1:$port
export MLFLOW_TRACKING_USERNAME=admin
export MLFLOW_TRACKING_PASSWORD=$(cat "$dir/admin.password")
END
  (
    unset PGPASSWORD MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD
    # shellcheck source=/dev/null
    . "$dir/server.env"
    exec setsid "$here/serve.sh" </dev/null >>"$dir/server.log" 2>&1
  ) &
  server=$!
  printf '%s\n' "$server" "$(began "$server")" >"$dir/server.pid"
  tries=0
  until python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health', timeout=2)" 2>/dev/null; do
    tries=$((tries + 1))
    kill -0 "$server" 2>/dev/null || fail "The MLflow server ended; see $dir/server.log."
    [ "$tries" -lt 240 ] || fail "The MLflow server does not answer; see $dir/server.log."
    sleep 1
  done
  say "MLflow with PostgreSQL at http://127.0.0.1:$port, user admin. Before jobs and before ray start: . $dir/client.env"
}

stop() {
  if server_runs; then
    kill -s TERM -- "-$server" 2>/dev/null || true
    tries=0
    while kill -s 0 -- "-$server" 2>/dev/null && [ "$tries" -lt 20 ]; do sleep 1; tries=$((tries + 1)); done
    kill -s KILL -- "-$server" 2>/dev/null || true
  fi
  rm -f "$dir/server.pid"
  if postgres_runs; then as_database "$binaries/pg_ctl" -D "$data" -m fast -w stop >/dev/null; fi
  say "Stopped. Records stay in $dir."
}

case $command in
start) start "${3:-}" ;;
stop) stop ;;
*) fail "Usage: $0 start|stop DIR [PORT]" ;;
esac
