"""What every baseline asks of its fields."""

from __future__ import annotations

from commonprior.errors import RecipeError


def at_least(least: float, **fields: float) -> None:
    """Raise `RecipeError` for the first field that is below `least`, or not a number."""
    for name, value in fields.items():
        if not value >= least:
            raise RecipeError(f"{name} = {value}: expected at least {least:g}")


def above(bound: float, **fields: float) -> None:
    """Raise `RecipeError` for the first field that is not above `bound`."""
    for name, value in fields.items():
        if not value > bound:
            raise RecipeError(f"{name} = {value}: expected above {bound:g}")
