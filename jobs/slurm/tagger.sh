#!/usr/bin/env bash
# Tag a catalogue by an array of Slurm jobs, a part each, and merge the parts once all of them have ended well. On a login node, in a folder
# that all nodes see:
#   MANIFEST=manifest.parquet OUTPUT=tagged.parquet PARTS=16 jobs/slurm/tagger.sh
# Options are passed on to `tagger run`. The earlier OUTPUT is replaced once the merge has judged the new one.
# Put in here what your cluster wants: a partition, an account, the sizes of one part. The merge has the same, without a GPU.
#SBATCH --job-name=tagger
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
##SBATCH --gres=gpu:1
# A node that is lost or drained starts the job again; two minutes before its time is over, tagger is stopped, to be started again.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail

export MANIFEST=${MANIFEST:-manifest.parquet} # the catalogue
export OUTPUT=${OUTPUT:-tagged.parquet}       # the result, in a folder that all nodes see
export PARTS=${PARTS:-4}                      # how many jobs share the work
export TAGGER=${TAGGER:-tagger}               # the command, on every node
# The embedding cache is an SQLite file: keep it on a disk of the node. The default would be in a home that is often on NFS.
export CACHE=${CACHE:-/tmp/tagger-$UID}
# A step doesn't take it over from its job.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

case ${TAGGER_STEP:-submit} in
submit)
    parts=$(TAGGER_STEP=part sbatch --parsable --export=ALL --array="1-$PARTS" "$0" "$@")
    merge=$(TAGGER_STEP=merge sbatch --parsable --export=ALL --gres=none --dependency="afterok:${parts%;*}" --kill-on-invalid-dep=yes "$0")
    echo "tagger: job ${parts%;*} tags $MANIFEST in $PARTS parts, and job ${merge%;*} merges them into $OUTPUT"
    exit
    ;;
part)
    # By its SLURM_JOB_ID, the array's last task would start the whole array again.
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    tag=(run "$MANIFEST" --output "$OUTPUT" --overwrite --quiet --cache "$CACHE" --shard "$SLURM_ARRAY_TASK_ID/$PARTS" "$@")
    ;;
merge)
    job=$SLURM_JOB_ID
    tag=(merge "$OUTPUT" --overwrite --quiet)
    ;;
esac

code=0
srun "$TAGGER" "${tag[@]}" || code=$?
# Stopped: start it again, four times at most. The job keeps its number, so the merge waits for it.
if ((code == 75 && ${SLURM_RESTART_COUNT:-0} < 4)); then
    scontrol requeue "$job" && sleep infinity # until Slurm ends this start
fi
exit "$code"
