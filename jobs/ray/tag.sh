#!/usr/bin/env bash
# Tag a catalogue on the Ray cluster that this machine belongs to, its head by preference. Options are passed on to `tagger run`, whose exit
# code is this script's. The earlier OUTPUT is replaced once the new one has been judged; start it again, and it continues.
set -euo pipefail

MANIFEST=${MANIFEST:?expected the catalogue, which all machines see: in a shared folder, or s3://...}
OUTPUT=${OUTPUT:?expected the place of the result, which all machines see}
TAGGER=${TAGGER:-tagger} # the command
PAUSE=${PAUSE:-60}       # seconds before it is started again, for nodes to come back
# Without it, Ray would start a cluster of this machine alone.
export RAY_ADDRESS=${RAY_ADDRESS:-auto}

for try in 1 2 3 4 5; do
    code=0
    "$TAGGER" run "$MANIFEST" --output "$OUTPUT" --overwrite --quiet --engine ray "$@" || code=$?
    # Stopped, or the cluster has no node yet: it is started again, four times at most.
    ((code == 75 && try < 5)) || exit "$code"
    sleep "$PAUSE"
done
