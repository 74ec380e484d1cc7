"""Read Parquet manifests, and write results: on this machine or on an object store.

corrections.py         what a person has answered, and what is wrong with it
embedding_moments.py   kept beside a result, for the next night
foreign_formats.py     what a file is that is no Parquet, and the line that converts it
held_files.py          a manifest's files, as they were when they were opened
id_column.py           values that must differ
image_column.py        which column holds the images
job_description.py     what parts depend on, beside them
label_studio.py        the same as tasks and exports of Label Studio
manifest.py            a manifest of one or many files, checked, cut into shards and read as a stream
manifest_files.py      the files that a manifest's name means
object_manifest.py     the objects of a manifest on a store, copied
object_storage.py      whole objects on S3, Google Cloud Storage and Azure
outputs.py             where the results go, never among the inputs
partitions.py          columns that folder names hold: category=shirt/
product_column.py      which rows show one product
profile.py             what a manifest holds: references and labels, counted
references.py          rows -> references to their images
remote_results.py      results on an object store
result_fingerprint.py  which result this is, by its answers
results.py             shard parts that survive a crash, joined into one result
retry.py               an earlier result whose error rows are tried again
review_table.py        what a person is asked about rows, as CSV and Parquet
row_lookup.py          a few rows of a large file by their numbers
sandbox.py             files of strangers, read in another process first
schemas.py             which columns hold images, and which ones tagging adds
sharding.py            shards tagged by hand on several machines
sketch_files.py        sketches of images, beside their tags
tables.py              Delta tables, read through their log; Iceberg and Hudi, refused
tags.py                decisions and errors -> the tag columns of a shard
truth.py               truth values as people type them -> labels
truth_column.py        corrections -> the truth column of a manifest
unified_schema.py      one schema of those of a manifest's files, where nothing is lost
"""
