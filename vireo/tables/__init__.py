"""Items, shards and prediction rows as Parquet."""
