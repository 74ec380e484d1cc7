"""The object stores that an image, a manifest or a result may lie on."""

# scheme -> the package that speaks to it, the extra of tagger that brings it
STORES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
