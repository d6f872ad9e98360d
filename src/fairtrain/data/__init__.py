"""Who and which rows: the only door for what people pass, groups, labels, splits and draws."""

from __future__ import annotations

from fairtrain.data.groups import Groups, GroupScheme

__all__ = ["GroupScheme", "Groups"]
