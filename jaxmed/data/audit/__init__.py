"""Audits of a data set: duplicates, leakage between splits, sizes and formats."""

from jaxmed.data.audit.audit import Audit, audit, survey
from jaxmed.data.audit.duplicates import Duplicates, find_duplicates
from jaxmed.data.splits.grouping import find_overlap

__all__ = [
    "Audit",
    "Duplicates",
    "audit",
    "find_duplicates",
    "find_overlap",
    "survey",
]
