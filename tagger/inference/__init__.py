"""Models loaded, shards tagged.

job.py              what is to be tagged and how, checked before any model is loaded
labels.py           which labels: those of the settings, or what the truth column holds
artifacts.py        what checkpoints and calibrations say of themselves, checked against the settings
load.py             a job -> the engine that runs it, with its models and caches open
predictors.py       settings -> encoders loaded, with the heads of their attributes
predictor.py        an encoder and heads: pixels -> embeddings, embeddings -> probabilities
prompts.py          prompts -> embeddings, each encoded once
unknown.py          the rule that finds images that are none of the labels
hybrid.py           CLIP and a ResNet18 together: which rows the second has to see, and who decides
local_engine.py     shards on this machine: recalled, read, encoded, decided
recall.py           shards opened, with what is known of their images without reading a file
shard_state.py      shards on their way, and the batches in which their images are read
embedding_stream.py images -> embeddings, each looked up or encoded once
fallback_stream.py  the fallback's embeddings, of the rows that it has to see
file_memory.py      which bytes a reference led to when it was read last
bad_images.py       which bytes are no image, and why
kept_thumbnails.py  small pictures of images that have not changed
store.py            where all that is kept
precision_trial.py  a precision tried on the first images
sampling.py         images drawn evenly, to quantise a model with
dispatch.py         which process tags which shard, where there are several
device_processes.py a process for each device of this machine
ray_engine.py       an actor for each encoder of a Ray cluster
fingerprints.py     what tags and embeddings depend on
timings.py          what a run's time went into
estimate.py         what a run will take, from what one image takes
"""
