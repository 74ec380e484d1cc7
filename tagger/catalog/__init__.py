"""What goes in and comes out: Parquet manifests and results."""
