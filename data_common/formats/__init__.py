"""Files of other formats as rows: CSV, JSON, Parquet."""
