"""Tables of images: CSV or Parquet files with paths, labels, splits and patients."""
