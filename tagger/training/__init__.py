"""Labelled rows -> checkpoints and calibrations.

dataset.py      the labelled rows of a manifest: truth, embeddings, pixels
split.py        rows to fit on and rows to judge with
hold_out.py     the same, where a few are not enough
few_shot.py     a few rows to learn from and others to test with, none nearly the same picture
resnet18.py     a ResNet18 fine-tuned on pixels
clip.py         a CLIP fine-tuned on pixels and the prompts of their labels
clip_embeddings.py  embeddings of a CLIP that is being changed
lora.py         low-rank changes of its attention
weight_averaging.py  averages over steps, and between what was and what was learned
ensemble.py     the weight with which its probabilities are averaged with CLIP's
temperature.py  logits and truth -> a temperature
calibration.py  temperatures, fitted on one half of the rows and judged on the other
review.py       decided rows -> thresholds of review that keep a promised precision
unknown.py          rows that fit no label -> the score that finds such rows, and its threshold
labelled_embeddings.py  the labelled rows that a head is fitted on, and their splits
row_groups.py   rows of one product, or with nearly the same picture, that no split tears apart
cross_validation.py  the best of some settings of a method, on held-out rows
gaussian_head.py  class means and one precision, blended with zero-shot
linear_probes.py  linear heads that gradient descent finds from zero-shot
kernel_heads.py  heads that keep the rows: near one of them, its label
head_methods.py  the methods that fit a head, by name
earlier_head.py  tonight's head against yesterday's
choose_head.py  the method that wins on held-out rows, or zero-shot
prediction_sets.py  held-out rows -> the thresholds of prediction sets
prompt_learning.py  learned words before the labels, through the frozen text tower -> a head
dapt.py         learned words and learned patches: prompts of both towers, whose spread is shaped
clip_systems.py  the systems of a comparison that change CLIP itself
prompt_sets.py  sets of prompts that may stand for labels: templates, descriptions, random words
systems.py      what each system that is compared says of test rows
"""
