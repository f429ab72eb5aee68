"""Interactive parts of the report: image gallery and threshold explorer."""
