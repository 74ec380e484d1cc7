"""The command line: options -> one call -> an exit code. Imports nothing heavy, so that help is there at once.

main.py         the group of commands, errors as one line, exit codes
options.py      options that several commands take, and the values that they make
console.py      what the library logs, one line each on stderr
run.py          `tagger run`
merge.py        `tagger merge`
evaluate.py     `tagger evaluate`
inspect.py      `tagger inspect`
train.py        `tagger train`
calibrate.py    `tagger calibrate`
compare.py      `tagger compare`
prompts.py      `tagger prompts`
report.py       `tagger report`
review.py       `tagger review`
history.py      `tagger history`
models.py       `tagger models`
cache.py        `tagger cache`
init.py         `tagger init`
"""
