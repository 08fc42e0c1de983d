#!/bin/sh
# Sourced by backup.sh and restore.sh.
#   on_database URI PROGRAM ARGUMENTS...    runs a program of PostgreSQL on a database given as SQLAlchemy writes it
# The password goes by the environment: arguments of a process can be read by every user of the machine.
set -eu
on_database() {
  password=$(URI=$1 python -c '
import os, urllib.parse as parse
print(parse.unquote(parse.urlsplit(os.environ["URI"]).password or ""))
')
  database=$(printf %s "$1" | sed -e 's/^postgresql+[a-z0-9]*:/postgresql:/' -e 's#^\(postgresql://[^/@:]*\):[^/@]*@#\1@#')
  shift
  PGPASSWORD=${password:-${PGPASSWORD:-}} "$@" --dbname "$database"
}
