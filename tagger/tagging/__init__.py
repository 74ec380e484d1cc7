"""Embeddings -> tags.

heads.py        embeddings -> one logit per label
head_file.py    the file of a head that was fitted on labelled rows
decisions.py    probabilities -> the best labels, and which rows a person should look at
unknown.py      how well an image fits any of the labels, and which fit none of them
vocabulary.py   nouns that are none of the labels, from nouns.tsv.gz
calibration.py  the temperatures that logits are divided by, and their file
"""
