"""Model folders: saved whole, checked when loaded, never unpickled."""

from __future__ import annotations

from fairtrain.persistence.folder import load, save

__all__ = ["load", "save"]
