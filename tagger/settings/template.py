"""The settings file that `tagger init` writes."""

from __future__ import annotations

from pathlib import Path

from tagger.core.files import write_text
from tagger.core.write_check import require_writable, write_error
from tagger.settings.schema import FILE_NAME

STARTER = """\
# Settings of `tagger run`; options on the command line beat this file. Everything commented out is the default.

# labels = ["shirt", "dress", "shoes"]    # of a single attribute, instead of an [[attribute]] below

[model]
# name = "openai/clip-vit-base-patch32"   # a hub id, or a folder (relative to this file)
# revision = "main"                       # pin a hub commit, so that every night uses the same weights
# allow_licences = ["mit", "apache-2.0"]  # a model under another licence is refused; `tagger models list` names some
# backend = "torch"                       # or "openvino", on CPUs: pip install 'tagger[openvino]'
# precision = "auto"                      # fp32, bf16, fp16 (torch), int8 (openvino); auto: what is fast and decides alike
# exact_preprocessing = false             # true: no JPEG is decoded at less than its size

[manifest]
# image_column = "image_path"             # found by itself: image_path, image, path or file_name
# id_column = "product_id"                # named here, it must be unique
# image_root = "images"                   # where relative image paths start; default: the manifest's folder

[images]
# allow_roots = []                        # other folders that image paths may lead into
# allow_formats = []                      # beside JPEG, PNG and WebP, for example ["GIF", "BMP"]
# allow_hosts = []                        # of https:// references, for example ["cdn.example.com"]
# allow_buckets = []                      # of object stores, for example ["s3://photos"]; also gs:// and az://
# allow_private_networks = []             # addresses that are not public but may be reached: ["10.1.0.0/16"]
# timeout = 60.0                          # seconds that one image may take

[quality]                                 # pictures that are tagged, and go to review
# min_side = 10                           # pixels of the shorter side
# min_aspect_ratio = 0.35                 # the shorter side over the longer
# min_brightness = 0.32                   # of the lightest hundredth, 0 to 1: below it, a picture is too dark
# max_brightness = 0.9                    # of the darkest twentieth: above it, a picture is washed out
# min_sharpness = 30                      # variance of the Laplacian: below it, a picture is blurred

[cache]                                   # of embeddings: what has not changed is not computed again
# enabled = true
# folder = "/var/cache/tagger"            # default: tagger in the user's cache folder
# max_gb = 16.0                           # what was not used for longest goes first
# url = "postgresql://tagger@db/tagger"   # of many machines: embeddings go there; pip install 'tagger[postgres]'

[[attribute]]                             # one question about each image; repeat the block for more
name = "category"
labels = ["shirt", "dress", "shoes"]
# labels may have prompts of their own, and review_below: {name = "shoes", prompts = ["A photo of a pair of shoes."]}
templates = ["A photo of a {label}."]
# truth_column = "category"               # rows that have a value here evaluate the run
# review_below = 0.5                      # tag, but mark for review, what is less certain than this
# prediction_sets = 0.9                   # <name>_set: the fewest labels that hold the right one in 90 % of rows; calibrate first
# unknown = true                          # an image that is none of the labels gets none, and goes to review; calibrate it
# negative_labels = ["belt", "watch"]     # what else there is; "mined": from a vocabulary of things that are sold
# head = "head.safetensors"               # from `tagger train head`: decides by what it learned from labelled rows
# calibration = "calibration.json"        # from `tagger calibrate`: confidences that are right as often as they say

# [fallback]                              # a ResNet18 from `tagger train resnet18` beside CLIP
# checkpoint = "resnet18.safetensors"
# mode = "low-confidence"                 # it decides where CLIP's confidence is under `below`; or "ensemble": both are averaged
# below = 0.5
# on_model_error = false                  # true: where CLIP cannot be had, it tags alone

# [gates]                                 # results that do not reach these are written aside, and the exit code is 3
# min_accuracy = 0.9                      # of each attribute with a truth_column
# min_macro_f1 = 0.85
# min_labelled_rows = 100
# min_truth_in_labels = 0.5               # of the truth values; where fewer fit a label, the gates above fail
# max_error_rate = 0.02                   # of all rows
# max_errors = "2%"                       # the same as a percentage, or a number of rows; beats max_error_rate
# max_review_rate = 0.2                   # of the rows without an error
# max_changed_labels = 0.05               # of the rows labelled in the last published result, too
# max_psi = 0.25                          # population stability index of the labels' shares since then

# [report]                                # report.html, which every run writes
# slices = ["brand", "season"]            # columns: how good are the tags for each of their values?
"""


def write_starter(folder: Path, overwrite: bool = False) -> Path:
    """Write a commented tagger.toml; UsageError if there is one already, StoppedError where it cannot be written."""
    path = folder / FILE_NAME
    require_writable(path, str(path), overwrite=overwrite)
    try:
        write_text(path, STARTER)
    except OSError as error:
        raise write_error(str(path), error) from error
    return path
