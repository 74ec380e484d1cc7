"""What the user wants: tagger.toml, and the options that outrank it.

options.py      what a caller says beside tagger.toml: Overrides, Output, Machine, Recipe, Study
schema.py       the tables and keys of tagger.toml, and which values they may have
attributes.py   attributes, labels and the prompts that stand for a label
cache_url.py    the address of a shared cache, without a password
paths.py        where the paths of tagger.toml and of options start
load.py         the file and the options, merged, validated together, and explained
edit.py         other prompts written into a tagger.toml, its comments kept
template.py     the settings file that `tagger init` writes
"""
