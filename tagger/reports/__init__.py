"""Report a run, to people and to machines.

attribute_section.py  what report.html says of one attribute
event_log.py          log.jsonl: what a run says and does, while it does it
gallery.py            the rows that a report shows
history.py            the runs below a folder, one a night, as a table
html.py               report.html
inline_svg.py         pictures of matplotlib as part of a page
inspection.py         what `tagger inspect` found
page.py               pages of one file: templates/, escaping, a Content-Security-Policy
plots.py              matrices, sheets of pictures and curves, in one style
prometheus.py         metrics.prom: how a run ended
report_files.py       pictures of a report, as files
review_page.py        review.html
review_queue.py       the rows whose correction teaches most
run_record.py         what a run leaves however it ends: its log and its metrics
shown_rows.py         rows of a result as plain values
stored_summary.py     summary.json, read again
summary.py            summary.json: what a run did
summary.schema.json   the JSON Schema of summary.json
"""
