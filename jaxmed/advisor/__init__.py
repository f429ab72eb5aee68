"""Advice on which strategy to start with, and domain distance."""

from jaxmed.advisor.advice import Advice, Alternative, Reason
from jaxmed.advisor.advisor import advise
from jaxmed.advisor.domain_distance import domain_distance

__all__ = [
    "Advice",
    "Alternative",
    "Reason",
    "advise",
    "domain_distance",
]
