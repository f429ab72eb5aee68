"""Transforms of images: preprocessing, augmentation, mixup, test-time views."""
