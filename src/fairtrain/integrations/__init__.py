"""Doors to other packages: each module needs the one that it is named after.

Nothing here is imported by the rest of the library, so that none of these packages is needed by
whoever does not use it.
"""
