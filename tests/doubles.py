"""Strangers to the product, each small, each coming in through a door that something real will use later.

Learners: a chip's local plasticity, a microcontroller's frozen int8 body, an evolution strategy whose sites send only
scores. A device that is a person with a pencil, the gateway that holds its packet, and a sum that hides nothing.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.learners import Learner
from commonprior.prior import Contributions, Prior
from commonprior.site import Protected
from commonprior.sums import SecureSum
from commonprior.sums.plain import Plain
from commonprior.task import Categorical, Gaussian, log_likelihood


def flat(x):
    """Inputs [n, ...] as one matrix [n, c + 1], a one in its last column."""
    parts = [jnp.reshape(leaf, (leaf.shape[0], -1)) for leaf in jax.tree.leaves(x)]
    return jnp.concatenate([*parts, jnp.ones((len(parts[0]), 1))], 1)


def width(spec):
    return flat(spec.example()).shape[1]


def teacher(batch, k):
    """What each output should say [n, k]: the label itself, or 1 for the right class; nothing where padded."""
    wanted = batch.y[:, None] if k == 1 else jax.nn.one_hot(batch.y.astype(int), k)
    return jnp.where(batch.mask[:, None] > 0, wanted, 0.0)


def say(scores):
    """Outputs [n, k] as a prediction."""
    return Gaussian(scores[:, 0], jnp.full(len(scores), 0.5)) if scores.shape[1] == 1 else Categorical(4 * scores)


def loss(learner, params, state, task):
    """Minus the log-likelihood of the query after adapting to the support."""
    adapted = learner.adapt(Prior(params, state), task.support, None)
    prediction = learner.predict(Prior(params, state), adapted, task.query.x, None)
    return -log_likelihood(prediction, task.query).sum() / jnp.maximum(task.query.mask.sum(), 1)


@dataclass(frozen=True)
class Hebbian(Learner):
    """Weights move by the product of what comes in and what a teacher says; where they start and how is the prior."""

    def init(self, spec, key):
        weights = np.zeros((width(spec), spec.outputs), np.float32)
        return Prior({"rule": np.array([0.3, 0.3], np.float32), "weights": weights})

    def length(self, prior):
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior, support, key, start=None):
        pre, (rate, decay) = flat(support.x) * support.mask[:, None], prior.params["rule"]
        weights = jnp.asarray(prior.params["weights"] if start is None else start)
        n = jnp.maximum(support.mask.sum(), 1)
        return (1 - decay) * weights + rate * pre.T @ teacher(support, weights.shape[1]) / n

    def predict(self, prior, adapted, x, key):
        return say(flat(x) @ adapted)

    @partial(jax.jit, static_argnums=0)
    def _rows(self, params, tasks):
        gradients = jax.vmap(jax.grad(partial(loss, self)), (None, None, 0))(params, {}, tasks)
        return -jnp.concatenate([jnp.reshape(gradients[n], (len(gradients[n]), -1)) for n in sorted(gradients)], 1)

    def contribute(self, prior, tasks, memory, key):
        return Contributions(np.asarray(self._rows(dict(prior.params), tasks)), "task"), memory

    def apply(self, prior, mean, key):
        step = 0.05 * np.clip(mean, -1, 1)
        rule, weights = prior.params["rule"] + step[:2], prior.params["weights"]
        return Prior({"rule": rule.astype(np.float32),
                      "weights": (weights + step[2:].reshape(weights.shape)).astype(np.float32)})  # fmt: skip


@dataclass(frozen=True)
class FrozenBody(Learner):
    """An int8 body that nobody moves, and a prototype of the label in each of its cells; sites send how those moved."""

    cells: int = 16

    def init(self, spec, key):
        body = jax.random.randint(key, (width(spec), self.cells), -127, 128)
        return Prior({"prototypes": np.zeros((self.cells, spec.outputs), np.float32)},
                     {"body": np.asarray(body, np.float32)})  # fmt: skip

    def length(self, prior):
        return prior.params["prototypes"].size

    def cell(self, prior, x):
        return jax.nn.softmax(3 * flat(x) @ (prior.state["body"] / 127), axis=1)

    def adapt(self, prior, support, key, start=None):
        old = jnp.asarray(prior.params["prototypes"] if start is None else start)
        hit = self.cell(prior, support.x) * support.mask[:, None]
        return (0.5 * old + hit.T @ teacher(support, old.shape[1])) / (0.5 + hit.sum(0))[:, None]

    def predict(self, prior, adapted, x, key):
        return say(self.cell(prior, x) @ adapted)

    def contribute(self, prior, tasks, memory, key):
        learn = jax.jit(jax.vmap(lambda task: self.adapt(prior, task.query, key, self.adapt(prior, task.support, key))))
        moved = np.asarray(learn(tasks)) - prior.params["prototypes"]
        return Contributions(moved.reshape(len(moved), -1), "task"), memory

    def apply(self, prior, mean, key):
        old = prior.params["prototypes"]
        return Prior({"prototypes": (old + 0.5 * mean.reshape(old.shape)).astype(np.float32)}, dict(prior.state))


@dataclass(frozen=True)
class ScoresOnly(Learner):
    """Public Rademacher directions from a counter; what travels is how each of them scored."""

    directions: int = 64

    def init(self, spec, key):
        return Prior({"w": np.zeros((width(spec), spec.outputs), np.float32)}, {"round": np.zeros(1, np.float32)})

    def length(self, prior):
        return self.directions

    def signs(self, prior):
        shape = (self.directions, *prior.params["w"].shape)
        bits = np.random.Philox(key=int(prior.state["round"][0])).random_raw(int(np.prod(shape)))
        return (2.0 * (bits & 1) - 1).reshape(shape)

    def adapt(self, prior, support, key, start=None):
        w = jnp.asarray(prior.params["w"] if start is None else start)
        error = (teacher(support, w.shape[1]) - flat(support.x) @ w) * support.mask[:, None]
        return w.at[-1].add(0.5 * error.sum(0) / jnp.maximum(support.mask.sum(), 1))

    def predict(self, prior, adapted, x, key):
        return say(flat(x) @ adapted)

    @partial(jax.jit, static_argnums=0)
    def _scores(self, w, signs, tasks):
        def gain(task, sign):
            return loss(self, {"w": w - 0.05 * sign}, {}, task) - loss(self, {"w": w + 0.05 * sign}, {}, task)

        return jax.vmap(lambda task: jax.vmap(lambda sign: gain(task, sign))(signs))(tasks)

    def contribute(self, prior, tasks, memory, key):
        scores = self._scores(prior.params["w"], self.signs(prior).astype(np.float32), tasks)
        return Contributions(np.asarray(scores), "task"), memory

    def apply(self, prior, mean, key):
        step = (self.signs(prior) * np.asarray(mean)[:, None, None]).sum(0) / (0.1 * self.directions)
        return Prior({"w": (prior.params["w"] + 0.1 * step).astype(np.float32)},
                     {"round": (prior.state["round"] + 1).astype(np.float32)})  # fmt: skip


class PaperTarget:
    """A device that is a person with a pencil: adapts one number by hand and hands in a packet."""

    def adapt(self, prior, samples):
        slope = sum(x * y for x, y in samples) / sum(x * x for x, _ in samples)
        return {"w": [slope - float(prior.params["w"][0, 0]), 0.0]}


@dataclass
class Gateway:
    """A contributor without tasks: it holds what devices handed in."""

    packets: list

    def contribute(self, context, mechanism, memory):
        rows = np.array([packet["w"] for packet in self.packets])
        integers, _ = mechanism.protect(
            Contributions(rows, "site"), context.session.encoding, context.release, {},
            jax.random.key(context.session.round), lambda n: bytes(n),
        )  # fmt: skip
        return Protected(integers, memory)


@dataclass(frozen=True)
class PaperPrior(ScoresOnly):
    """The prior that paper devices share: the mean of what they found."""

    def length(self, prior):
        return prior.params["w"].size

    def apply(self, prior, mean, key):
        old = prior.params["w"]
        return Prior({"w": (old + mean.reshape(old.shape)).astype(np.float32)}, dict(prior.state))


@dataclass(frozen=True)
class Leaky(SecureSum):
    """A sum that shows everything and does not say so."""

    phases: ClassVar = Plain.phases

    def check(self, session):
        pass

    def party(self, session, seat, identity, integers, csprng, guard):
        return Plain().party(session, seat, identity, integers, csprng, guard)

    def coordinator(self, session, identity, log=()):
        return Plain().coordinator(session, identity, log)
