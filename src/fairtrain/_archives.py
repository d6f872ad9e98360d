"""Zip archives from elsewhere, looked at before anything in them is read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

__all__ = ["are_stored"]


def are_stored(members: Sequence[zipfile.ZipInfo], size: int) -> bool:
    """Whether members lie in an archive as they are: none is larger than what stands for it.

    Parameters
    ----------
    members : sequence of ZipInfo
        What the archive lists.
    size : int
        Bytes of the archive: members that overlap would be larger together.
    """
    as_they_are = all(
        member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
        for member in members
    )
    return as_they_are and sum(member.file_size for member in members) <= size
