"""A package that a user of jaxmed might have."""
