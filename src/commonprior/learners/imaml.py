"""Implicit MAML: the meta-gradient at the solution of the inner problem, whatever way led there.

Rajeswaran, Finn, Kakade & Levine, "Meta-learning with implicit gradients" (2019). The inner problem is the support's
loss plus pull/2 times the squared distance from the prior; at its solution φ the meta-gradient is
(I + H/pull)⁻¹ ∇loss(φ), H the Hessian of the support's loss, solved by conjugate gradient.

Good at: many inner steps in the memory of one, and tasks that should stay near the prior. Bad at: a half-solved inner
problem, whose gradient is wrong by as much (more steps, a higher rate or a stronger pull); where the Hessian outweighs
the pull below zero, conjugate gradient stops at that direction; slower than MAML for a step or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _local, _objective
from commonprior.learners._inner import to_adapt
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Imaml(Learner):
    """`inner_steps` of `inner_rate` solve the inner problem, `solver_steps` the linear one; `adapts` is as in `Maml`.

    `pull` is the paper's λ, in units of the loss over those of a weight squared: large keeps near the prior.
    """

    network: Network
    inner_steps: int = 16
    inner_rate: float = 0.05
    pull: float = 1.0
    solver_steps: int = 5
    adapts: tuple[str, ...] = ("",)
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        for name in ("inner_steps", "solver_steps"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected at least 1")
        for name in ("inner_rate", "pull"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected a number above 0")
        if self.inner_rate * self.pull >= 2:
            raise RecipeError(
                f"inner_rate = {self.inner_rate} with pull = {self.pull}: their product must be below 2, or the pull "
                f"alone makes the inner steps diverge; take an inner_rate below {2 / self.pull:g}"
            )

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights. Raises `ModelError` where `adapts` names nothing."""
        params = _objective.fresh(self.network, spec, key)
        to_adapt(params, self.adapts)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights, those alone that `adapts` names; after `start`, they are pulled towards it."""
        return self._adapt(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted network says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self.network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the meta-gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return the query's loss after adapting to the support; its gradient is the implicit one."""
        adapted = self._adapt(params, task.support, None)
        return _objective.judge(self.network, {**params, **adapted}, task.query)

    def _adapt(self, params: Tensors, support: Batch, start: Tensors | None) -> Tensors:
        if start is None:
            start = to_adapt(params, self.adapts)

        def loss(fast: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **fast}, support)

        def slope(fast: Tensors) -> Tensors:
            gradient = jax.grad(loss)(fast)
            return jax.tree.map(lambda g, value, home: g + self.pull * (value - home), gradient, fast, start)

        def solve(slope: Callable[[Tensors], Tensors], guess: Tensors) -> Tensors:
            def step(fast: Tensors, _: None) -> tuple[Tensors, None]:
                return jax.tree.map(lambda value, g: value - self.inner_rate * g, fast, slope(fast)), None

            return jax.lax.scan(step, guess, length=self.inner_steps)[0]

        def solve_tangent(hessian: Callable[[Tensors], Tensors], tangent: Tensors) -> Tensors:
            by = partial(_conjugate_gradient, steps=self.solver_steps)
            return jax.lax.custom_linear_solve(hessian, tangent, by, symmetric=True)

        return jax.lax.custom_root(slope, start, solve, solve_tangent)


def _conjugate_gradient(matvec: Callable[[Tensors], Tensors], b: Tensors, steps: int) -> Tensors:
    """Return x near matvec(x) = b after at most `steps` steps; it stays where the curvature ahead is not positive.

    So it never leaves the subspace on which the matrix is known to be positive (Steihaug, "The conjugate gradient
    method and trust regions in large scale optimization", 1983, without a radius).
    """
    right, unravel = ravel_pytree(b)

    def times(vector: Array) -> Array:
        return ravel_pytree(matvec(unravel(vector)))[0]

    def step(_: int, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, residual, direction, going = state
        curved, size = times(direction), residual @ residual
        curvature = direction @ curved
        going = going & (curvature > 0)
        length = jnp.where(going, size / jnp.where(going, curvature, 1), 0)
        x, residual = x + length * direction, residual - length * curved
        direction = residual + residual @ residual / jnp.where(going, size, 1) * direction
        return x, residual, direction, going

    start = (jnp.zeros_like(right), right, right, jnp.asarray(True))
    return unravel(jax.lax.fori_loop(0, steps, step, start)[0])
