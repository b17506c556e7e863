"""The minimum of a function of a few numbers, and how it moves with everything else that the function depends on.

The steps are Newton's, with absolute curvatures (Dauphin et al., "Identifying and attacking the saddle point problem",
2014), and so lead down from anywhere. The minimum's derivative is that of the implicit function theorem, with the exact
Hessian, as for so few numbers it costs nothing: no step is differentiated through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from commonprior.task import Array


class Shape(NamedTuple):
    """A function of a numbers at one point: its value, its slope [a] and its curvature [a, a]."""

    value: Array
    slope: Array
    curvature: Array


Function: TypeAlias = Callable[[Array, Any], Shape]
"""Of the numbers [a] and of whatever else is given."""

_LONGEST, _LEAST_CURVATURE = 1.0, 1e-3
_SLACK = 1e-5


class _Place(NamedTuple):
    """Where the search stands, the function's shape there, and how far it trusts it."""

    at: Array
    shape: Shape
    trust: Array


def minimise(function: Function, start: Array, given: Any, steps: int) -> Array:
    """Return where at most `steps` steps from `start` [a] lead down; a constant to whoever differentiates.

    No number moves by more than 1 in a step, so let them be logarithms or the like.
    """
    start, given = jax.lax.stop_gradient((start, given))

    def step(place: _Place, _: None) -> tuple[_Place, None]:
        towards = -_solve(place.shape.curvature, place.shape.slope)
        towards = towards * jnp.minimum(1, place.trust / jnp.maximum(jnp.abs(towards).max(), 1e-12))
        there = _Place(place.at + towards, function(place.at + towards, given), jnp.minimum(2 * place.trust, _LONGEST))
        here = place._replace(trust=place.trust / 4)
        # At the minimum, where all values are equal, rounding must not choose.
        fine = there.shape.value <= place.shape.value + _SLACK * (1 + jnp.abs(there.shape.value))
        return jax.tree.map(lambda new, old: jnp.where(fine, new, old), there, here), None

    # The first step goes nowhere, and so finds out what the function is like at the start: one copy of it is enough.
    unknown = Shape(jnp.full((), jnp.inf, start.dtype), jnp.zeros_like(start), jnp.eye(len(start), dtype=start.dtype))
    first = _Place(start, unknown, jnp.full((), _LONGEST, start.dtype))
    return jax.lax.scan(step, first, length=steps + 1)[0].at


def implicit(function: Function, minimum: Array, given: Any) -> Array:
    """Return `minimum` [a], where the function is least, with its derivatives by all that is `given`."""
    fixed = jax.lax.stop_gradient(minimum)
    here = function(fixed, given)
    moved = -_solve(here.curvature, here.slope)
    return fixed + moved - jax.lax.stop_gradient(moved)


def _solve(curvature: Array, slope: Array) -> Array:
    """Return the solution of a symmetric system whose eigenvalues count as positive and not too small."""
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(curvature))
    return vectors @ ((vectors.T @ slope) / jnp.maximum(jnp.abs(values), _LEAST_CURVATURE))
