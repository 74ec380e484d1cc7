#!/usr/bin/env bash
# The Airflow DAG in a real Airflow, with nights of the sample catalogue: one that is published, one whose manifest is missing (no
# second start), one that finds another running (started again). Makes an environment in ENVIRONMENT, which takes minutes.
#
#   tests/jobs/airflow.sh ENVIRONMENT TAGGER      for example: /tmp/airflow .venv/bin/tagger
set -euo pipefail

environment=$1
TAGGER=$(realpath "$2")
root=$(realpath "$(dirname "$0")/../..")
folder=$(mktemp -d)
export TAGGER TAGGER_NIGHTLY="$root/jobs/nightly.sh" XDG_CACHE_HOME="$folder/cache" NIGHTS="$folder/nights"
export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__DAGS_FOLDER="$root/jobs/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False

[[ -x $environment/bin/airflow ]] || {
    python3 -m venv "$environment"
    "$environment/bin/pip" install -q 'apache-airflow==3.3.2' 'apache-airflow-providers-standard==1.21.0'
}
PATH=$environment/bin:$PATH
{
    airflow db migrate
    airflow dags reserialize
} >"$folder/log" 2>&1
airflow dags list-import-errors 2>>"$folder/log"
airflow dags list 2>>"$folder/log"

# A run whose task waits for its next start does not end: it is given up after some seconds, and its state is read.
night() {
    local name=$1 expected=$2 state
    timeout 60 airflow dags test tagger "$3" >"$folder/$name.log" 2>&1 || true
    state=$(sqlite "select state || ' after ' || try_number || ' of ' || (max_tries + 1) from task_instance
        order by start_date desc limit 1")
    echo "$name: $state"
    [[ $state == "$expected"* ]] || {
        tail -30 "$folder/$name.log"
        exit 1
    }
}
sqlite() {
    python3 -c 'import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())' "$AIRFLOW_HOME/airflow.db" "$1"
}

export MANIFEST="$root/sample_catalog/manifest.parquet"
night "a good night" "success after 1" 2026-11-22T02:30:00
readlink "$NIGHTS/current"
MANIFEST="$folder/none.parquet" NIGHTS="$folder/other" night "no manifest" "failed after 1" 2026-11-23T02:30:00
flock "$NIGHTS/lock" sleep 30 &
night "another is running" "up_for_retry after 1" 2026-11-24T02:30:00
rm -r "$folder"
