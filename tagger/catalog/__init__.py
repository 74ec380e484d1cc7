"""Read Parquet manifests, and write results: on this machine or on an object store.

embedding_moments.py  kept beside a result, for the next night
manifest.py           a manifest of one or many files, checked, cut into shards and read as a stream
object_storage.py     whole objects on S3, Google Cloud Storage and Azure
outputs.py            where the results go, never among the inputs
profile.py            what a manifest holds: references and labels, counted
remote_results.py     results on an object store
results.py            shard parts that survive a crash, joined into one result
retry.py              an earlier result whose error rows are tried again
row_lookup.py         a few rows of a large file by their numbers
sandbox.py            files of strangers, read in another process first
schemas.py            which columns hold images, and which ones tagging adds
tags.py               decisions and errors -> the tag columns of a shard
"""
