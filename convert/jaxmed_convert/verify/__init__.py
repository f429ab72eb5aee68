"""Verification of a conversion against torch."""
