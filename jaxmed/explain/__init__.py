"""What a model looked at: maps of it, pictures of them, and whether they are faithful.

`explain.explain` makes maps by any of `methods.METHODS`; `curves`, `road`, `sanity` and
`localization` judge them.
"""
