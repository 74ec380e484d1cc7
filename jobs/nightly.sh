#!/usr/bin/env bash
# Run one night: tag the catalogue and, if the result is good, publish it. Readers open $NIGHTS/current/tagged.parquet, which belongs to the
# last good night at every moment. Options are passed on to `tagger run`, whose exit code is this script's; after 75, start it again. It may
# safely be started twice, or again after a kill.
set -euo pipefail

MANIFEST=${MANIFEST:-manifest.parquet} # the catalogue
CONFIG=${CONFIG:-}                     # its settings, with [gates]; default: tagger.toml beside it
NIGHTS=${NIGHTS:-nights}               # a folder for each night, and the link `current`
NIGHT=${NIGHT:-$(date +%F)}            # tonight's folder: a date, and what may follow it to run a day again (2026-11-24.2)
KEEP=${KEEP:-14}                       # how many nights are kept; the one that `current` leads to always is
TAGGER=${TAGGER:-tagger}               # the command
METRICS_DIR=${METRICS_DIR:-}           # node_exporter's textfile folder, if there is one
LEARN=${LEARN:-}                       # a manifest with labelled rows to learn a head from, often the catalogue itself; empty: no learning
HEAD=${HEAD:-head.safetensors}         # the head, the file that the attribute names in the settings
ATTRIBUTE=${ATTRIBUTE:-}               # whose head it is, where the settings have several
CALIBRATE=${CALIBRATE:-}               # options of `tagger calibrate` after a new head: "--output calibration.json"; empty: no calibration

export LC_ALL=C.UTF-8 # a scheduler sets none; and nights are compared byte by byte

say() { echo "nightly: $*" >&2; }
fail() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}
# Kubernetes and systemd stop this shell, which has to pass the stop on to tagger, its only background process.
stop() {
    [[ ${!-} ]] || fail 75 "stopped before tagger was started; nothing was published"
    kill -TERM "$!" 2>/dev/null || true
    stopped=$! interrupted=yes
}
stopped='' # the process that the stop was passed on to
interrupted=''
trap stop TERM INT HUP
# Run tagger; `code` is its exit code.
attempt() {
    "$TAGGER" "$@" &
    [[ ! $stopped || $stopped == "$!" ]] || stop # it came while no tagger ran
    code=0
    wait "$!" || code=$?
    # A trapped signal ends the wait; a second wait for the same process returns its exit code.
    while [[ $interrupted ]]; do
        interrupted=''
        code=0
        wait "$!" || code=$?
        ((code <= 128)) || code=75 # the signal came before tagger could handle it
    done
}

[[ $NIGHT =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}[0-9A-Za-z.-]*$ ]] ||
    fail 78 "expected NIGHT to begin with a date like 2026-11-24, found $NIGHT"
[[ $KEEP =~ ^[1-9][0-9]*$ ]] || fail 78 "expected KEEP to be a number from 1 on, found $KEEP"
[[ -L $NIGHTS/current || ! -e $NIGHTS/current ]] ||
    fail 78 "expected $NIGHTS/current to be a link, found a file or folder; move it away"
[[ ! $LEARN || $CONFIG || $(dirname "$LEARN") == "$(dirname "$MANIFEST")" ]] ||
    fail 78 "expected CONFIG, because LEARN lies in another folder than MANIFEST, found none; name the settings of both"
command -v "$TAGGER" >/dev/null || fail 78 "expected TAGGER to be tagger's command, found no command $TAGGER; give its whole path"
mkdir -p "$NIGHTS" || fail 75 "expected to write in $NIGHTS, and cannot; nothing was published"
{ exec 9>>"$NIGHTS/lock"; } || fail 75 "expected to write in $NIGHTS, and cannot; nothing was published"
# tagger inherits the lock, which is held as long as either of them lives.
flock -n 9 || fail 75 "expected no other night in $NIGHTS, found one that is running; start again when it has ended"

published=
[[ ! -e $NIGHTS/current/tagged.parquet ]] || published=$(basename "$(readlink -f "$NIGHTS/current")")
if [[ $published == "$NIGHT" ]]; then
    echo "nightly: $NIGHT is published already"
    exit
fi
[[ ! $published > $NIGHT ]] || fail 2 "expected NIGHT to be later than the published $published, found $NIGHT; name another"

folder=$NIGHTS/$NIGHT
mkdir -p "$folder" || fail 75 "expected to write in $NIGHTS, and cannot; nothing was published"
of_settings=()
[[ ! $CONFIG ]] || of_settings=(--config "$CONFIG")
tag=(run "$MANIFEST" --output "$folder/tagged.parquet" --overwrite --quiet "${of_settings[@]}")
[[ ! $published ]] || tag+=(--previous "$NIGHTS/current/tagged.parquet")

# Learn a head, and calibrate a new one. $HEAD.before is the head that was there, empty where there was none, until the new one is
# complete: where anything fails, or was killed, it is put back, because a calibration fits one head only.
learn() {
    local log=$folder/tagged.learning.log train=(train head "$LEARN" --output "$HEAD" --overwrite "${of_settings[@]}") options
    [[ ! $ATTRIBUTE ]] || train+=(--attribute "$ATTRIBUTE")
    [[ ! $CALIBRATE ]] || train+=(--hold-out 0.3) # what fitted a head cannot calibrate it
    [[ ! -e $HEAD.before ]] || put_back
    { if [[ -e $HEAD ]]; then cp "$HEAD" "$HEAD.copy"; else : >"$HEAD.copy"; fi && mv "$HEAD.copy" "$HEAD.before"; } || return
    attempt "${train[@]}" >"$log" 2>&1
    if [[ $code == 0 && $CALIBRATE ]] && ! cmp -s "$HEAD" "$HEAD.before"; then
        read -ra options <<<"$CALIBRATE"
        attempt calibrate "$LEARN" --overwrite "${of_settings[@]}" "${options[@]}" >>"$log" 2>&1
        ((code == 0)) || put_back
    fi
    rm -f "$HEAD.before"
    if ((code == 0 || code == 3)); then # 3: nothing is better than the prompts alone
        sed "s/^/nightly: /" "$log"
    else
        cat "$log" >&2
        return "$code"
    fi
}
put_back() {
    if [[ -s $HEAD.before ]]; then mv "$HEAD.before" "$HEAD"; else rm -f "$HEAD" "$HEAD.before"; fi
}
if [[ $LEARN ]]; then
    learn || say "expected to learn from $LEARN, and cannot ($?); the night goes on with the head that was there, if there was one"
    [[ ! $stopped ]] || fail 75 "stopped while it learned; nothing was published"
    [[ -e $HEAD ]] || tag+=(--no-heads)
fi

attempt "${tag[@]}" "$@"
trap '' TERM INT HUP # the rest takes milliseconds

if [[ $METRICS_DIR && -e $folder/tagged.run/metrics.prom ]]; then
    metrics=$METRICS_DIR/tagger.prom
    { cp "$folder/tagged.run/metrics.prom" "$metrics.new" && mv "$metrics.new" "$metrics"; } ||
        say "expected to write in $METRICS_DIR, and cannot; the metrics of $NIGHT stay in $folder/tagged.run"
fi
((code == 0)) || fail "$code" "$NIGHT is not published: tagger ended with $code; published is ${published:-nothing} as before"

sync "$NIGHTS" # tonight's folder must be on the disk before the link to it
ln -sfn "$NIGHT" "$NIGHTS/.current.new"
mv -T "$NIGHTS/.current.new" "$NIGHTS/current"
sync "$NIGHTS"
echo "nightly: $NIGHT is published"

# Only folders with a night's name that hold nothing but a run's files are nights: others hold files that people put there.
nights=()
for night in "$NIGHTS"/[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*; do
    [[ -L $night || ! -d $night || $(find "$night" -mindepth 1 -maxdepth 1 ! -name 'tagged.*') ]] || nights+=("$night")
done
for night in "${nights[@]::${#nights[@]} > KEEP ? ${#nights[@]} - KEEP : 0}"; do
    [[ $night -ef $NIGHTS/current ]] || rm -rf "$night" || say "expected to remove $night, and cannot; remove it by hand"
done
