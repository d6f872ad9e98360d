"""Sentences about what was asked."""

from __future__ import annotations

from fairtrain.constraints import Constraint

__all__ = ["constraint_in_words"]


def constraint_in_words(constraint: Constraint, columns: tuple[str, ...]) -> str:
    """Say what is asked, of which groups."""
    over = constraint.over or columns
    over = (over,) if isinstance(over, str) else tuple(over)
    name, who = constraint.notion.replace("_", " "), " x ".join(over)
    if constraint.kind == "ratio":
        return f"{name}: the lowest rate at least {constraint.bound:g} times the highest, by {who}"
    return f"{name}: any two groups by {who} at most {constraint.bound:g} apart"
