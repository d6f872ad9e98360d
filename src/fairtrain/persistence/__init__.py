"""Model folders: saved whole, checked when loaded, never unpickled."""

from __future__ import annotations

from fairtrain.persistence.folder import load, save
from fairtrain.persistence.packed import pack, unpack

__all__ = ["load", "pack", "save", "unpack"]
