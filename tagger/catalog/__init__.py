"""Read Parquet manifests, and write results: on this machine or on an object store.

corrections.py         what a person has answered, and what is wrong with it
label_studio.py        the same as tasks and exports of Label Studio
manifest.py            a manifest of one or many files, checked, cut into shards and read as a stream
object_storage.py      whole objects on S3, Google Cloud Storage and Azure
outputs.py             where the results go, never among the inputs
profile.py             what a manifest holds: references and labels, counted
remote_results.py      results on an object store
result_fingerprint.py  which result this is, by its answers
results.py             shard parts that survive a crash, joined into one result
retry.py               an earlier result whose error rows are tried again
review_table.py        what a person is asked about rows, as CSV and Parquet
row_lookup.py          a few rows of a large file by their numbers
sandbox.py             files of strangers, read in another process first
schemas.py             which columns hold images, and which ones tagging adds
tags.py                decisions and errors -> the tag columns of a shard
truth.py               corrections -> the truth column of a manifest
"""
