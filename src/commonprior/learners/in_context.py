"""In-context learning on tables: a transformer that takes the support for its context, each row a set of columns.

Hollmann et al., "TabPFN: a transformer that solves small tabular classification problems in a second" (2023), with the
prior learned from tasks instead of made-up ones. A row is the set of its (column, value) pairs (see
`networks._columns`): columns are known by name, unit and kind, an absent one is not there, and no parameter belongs to
a column. So sites with different columns learn one prior, and a prior learned for some columns takes others.

Good at: tables whose sites measure different things, many small tasks, adapting in one pass. Bad at: few tasks (it has
to learn how to learn), fingerprints of molecules (64 numbers are made of 1,024: kernels on counts see more), more than
256 columns, images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _answers, _comparing, _functions, _local
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import _columns
from commonprior.networks._attention import block, fresh_block
from commonprior.networks._columns import Layout
from commonprior.networks._layers import normalised, weight
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_COLUMNS, _SLOTS = "layout/columns", "layout/slots"
_LABEL, _ASKING, _SCALE, _OUT, _OUT_BIAS = (f"context/{name}" for name in ("label", "asking", "scale", "out", "bias"))


class Context(NamedTuple):
    """A task's samples so far, and what each block sees of them: [blocks, n, width]."""

    support: Batch
    seen: Array


@final
@dataclass(frozen=True)
class InContext(Learner):
    """`width` numbers a row, and as many `blocks` in which support looks at support and queries look at support."""

    width: int = 64
    heads: int = 4
    blocks: int = 2
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise RecipeError(f"width = {self.width}: expected a multiple of heads = {self.heads}")
        if self.blocks < 1:
            raise RecipeError(f"blocks = {self.blocks}: expected at least 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights, and in the state who the spec's columns are.

        Raises `ModelError` where a sample has more than 256 columns (or numbers, without columns).
        """
        layout, (label, outputs) = _columns.layout(spec.columns, spec.example()), _answers.numbers(spec)
        keys = jax.random.split(key, 4 + self.blocks)
        params = _columns.fresh(self.width, keys[0]) | {
            _LABEL: weight(keys[1], (label, self.width)),
            _ASKING: weight(keys[2], (1, self.width)),
            _SCALE: np.ones(self.width, np.float32),
            _OUT: weight(keys[3], (self.width, outputs)),
            _OUT_BIAS: np.zeros(outputs, np.float32),
        }
        for name, block_key in zip(self._names(), keys[4:]):
            params |= fresh_block(name, self.width, block_key)
        return self.server.begin(params).with_state({_COLUMNS: layout.columns, _SLOTS: layout.slots})

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Context | None = None) -> Context:
        """Return the context; after `start`, that of its samples and these together."""
        if start is not None:
            support = _functions.together(start.support, support)
        return self._look(prior.params, _layout(prior.state), support)

    def predict(self, prior: Prior, adapted: Context, x: Array, key: Array) -> Prediction:
        """Return what each query says after looking at the context."""
        return self._predict(prior.params, _layout(prior.state), adapted, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        known = tuple(np.ascontiguousarray(prior.state[name], "<f4").tobytes() for name in (_COLUMNS, _SLOTS))
        return _local.contribute(_Reading(self, *known), prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior, of the same columns."""
        return self.server.apply(prior, mean).with_state({name: prior.state[name] for name in (_COLUMNS, _SLOTS)})

    def _names(self) -> list[str]:
        digits = len(str(self.blocks - 1))
        return [f"context/{i:0{digits}d}" for i in range(self.blocks)]

    def _look(self, params: Tensors, layout: Layout, support: Batch) -> Context:
        h = _columns.rows(params, layout, support.x, self.heads)
        h = h + _answers.encoded(support, len(params[_LABEL]), h) @ params[_LABEL]
        seen = []
        for name in self._names():
            seen.append(h)
            h = block(params, name, h, h, support.mask, self.heads)
        return Context(jax.tree.map(jnp.asarray, support), jnp.stack(seen))

    def _predict(self, params: Tensors, layout: Layout, context: Context, x: Array) -> Prediction:
        h = _columns.rows(params, layout, x, self.heads) + params[_ASKING]
        for name, seen in zip(self._names(), context.seen):
            h = block(params, name, h, seen, context.support.mask, self.heads)
        outputs = (normalised(h) * params[_SCALE]) @ params[_OUT] + params[_OUT_BIAS]
        return _answers.say(outputs, len(params[_LABEL]))

    def _meta_loss(self, params: Tensors, layout: Layout, task: Task) -> Array:
        context = self._look(params, layout, task.support)
        return _comparing.surprise(self._predict(params, layout, context, task.query.x), task.query)


@dataclass(frozen=True)
class _Reading:
    """The learner with the columns that it reads: what `_local` differentiates, static under jit."""

    learner: InContext
    columns: bytes
    slots: bytes

    @property
    def local(self) -> LocalWork:
        return self.learner.local

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return minus the log-likelihood of the query's labels given the support, per label."""
        columns, slots = (np.frombuffer(data, "<f4") for data in (self.columns, self.slots))
        return self.learner._meta_loss(params, Layout(columns.reshape(-1, 4), slots.reshape(-1, 5)), task)


def _layout(state: Tensors) -> Layout:
    return Layout(state[_COLUMNS], state[_SLOTS])
