"""Report a run, to people and to machines.

event_log.py         log.jsonl: what a run says and does, while it does it
history.py           the runs below a folder, one a night, as a table
inspection.py        what `tagger inspect` found
page.py              pages of one file: templates/, escaping, a Content-Security-Policy
plots.py             a comparison as pictures
prometheus.py        metrics.prom: how a run ended
run_record.py        what a run leaves however it ends: its log and its metrics
stored_summary.py    summary.json, read again
summary.py           summary.json: what a run did
summary.schema.json  the JSON Schema of summary.json
"""
