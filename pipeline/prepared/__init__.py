"""Prepared data sets: parquet shards with a manifest, which rows keep a label, and how rows are read again."""
