"""What the commands do, one file each; the Python API.

run.py                a manifest -> tagged, evaluated, published results
shard.py              one of N parts of a manifest -> its tags, left for a merge
merge.py              the parts of all shards -> what a run would have published
tagging.py            an engine in this process, or several processes, and what they tell
shard_worker.py       one of several processes that tag shards of a run
plan.py               a job and an output -> what a run will do, checked before a model is loaded
publish.py            results judged by their gates, then published or written aside, and the summary
early_start.py        what the command line starts before the heavy imports
evaluate.py           a result that was written before -> its evaluation
report.py             a result that was written before -> its report, built again
finished_run.py       a run that has ended: its result, its summary, and how its images may be read
findings.py           a finished run -> nearly the same pictures, and truth that looks wrong
inspect.py            a manifest -> what a run would find, and take
train.py              labelled rows -> a ResNet18 checkpoint
train_clip.py         labelled rows -> a fine-tuned CLIP
train_dapt.py         labelled rows -> a CLIP with learned prompts in both towers, and its head
clip_folder.py        the folder that a training writes a CLIP to
progress.py           the bar of a training
train_head.py         labelled rows -> a head on CLIP's embeddings
calibrate.py          labelled rows -> temperatures and review_below
compare.py            labelled rows -> systems compared, in tables and pictures
prompts.py            labelled rows -> sets of prompts compared, the best one written into tagger.toml
models.py             a checkpoint of the hub -> a pinned copy, and an int8 model of it
review.py             a result -> a page or a file on which a person corrects tags
apply_corrections.py  corrections -> ground truth in the manifest
"""
