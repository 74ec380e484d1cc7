"""What is known of images from before.

embedding_cache.py  image bytes -> the embedding that they had
shared_cache.py     the embeddings of many machines, in PostgreSQL
byte_cache.py       digest -> whatever else is known by it
cache_file.py       the file of both: tables, eviction, checksums
maintenance.py      `tagger cache`: statistics, prune, verify
"""
