"""Splits by patient and class, cross-validation folds, split files, subsets."""
