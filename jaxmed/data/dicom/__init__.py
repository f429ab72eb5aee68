"""DICOM files: their tags, pixel values, windows, and decoding."""
