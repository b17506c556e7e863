"""Predicting by likeness: what a query's neighbours in the support say, each by a weight, and the prior where none is.

Nadaraya (1964) and Watson (1964): a label's distribution is the weighted one of the support's labels. The prior takes
part as one more neighbour, of its own learned logit: far from every sample, and without any, it alone speaks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError
from commonprior.networks import Network
from commonprior.prior import Tensors
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Task, TaskSpec, log_likelihood

AWAY, NOISE, MEAN, SPREAD, BIAS = "away", "noise", "mean", "spread", "bias"


def fresh(network: Network, spec: TaskSpec, features: int, key: Array) -> dict[str, np.ndarray]:
    """Return a fresh network with `features` outputs, and what the prior says without a sample.

    `bias` [k] are the classes' logits; `mean`, `spread` and `noise` [1] a label's mean and two logarithms of variances;
    `away` [1] the prior's logit as a neighbour. Raises `ModelError` where the network does not give `features` numbers.
    """
    example = spec.example()
    params = {name: np.asarray(v, np.float32) for name, v in network.init(example, features, key).items()}
    check_output(network, params, example, features)
    params[AWAY] = np.full(1, -2.0, np.float32)
    if spec.target.kind == "classification":
        return params | {BIAS: np.zeros(spec.outputs, np.float32)}
    return params | {MEAN: np.zeros(1, np.float32), SPREAD: np.zeros(1, np.float32), NOISE: np.full(1, -2.0, "f4")}


def check_output(network: Network, params: Tensors, example: Array, features: int) -> None:
    """Raise `ModelError` where a network does not map one sample to `features` numbers; nothing is compiled."""
    shape = jax.eval_shape(network.apply, params, example).shape
    if shape != (1, features):
        inputs = [list(np.shape(leaf)[1:]) for leaf in jax.tree.leaves(example)]
        raise ModelError(
            f"the network maps a sample of shapes {inputs} to {list(shape[1:])}, expected [{features}]; "
            f"change its last layer, or features = {features}"
        )


def check_classes(params: Tensors, tasks: Task) -> None:
    """Raise `ModelError` where stacked tasks have labels that are no class, or query classes without a support sample.

    Nothing can be like a class that nobody has seen; a regression has no classes to miss.
    """
    if BIAS not in params:
        return
    k, (support, query) = len(params[BIAS]), ((np.asarray(b.y), np.asarray(b.mask) > 0) for b in tasks)
    for y, known in (support, query):
        strange = known & ((y < 0) | (y >= k) | (y != np.floor(y)))
        if strange.any():
            raise ModelError(
                f"a label is {y[strange][0]:g} where this prior has {k} classes, 0 to {k - 1}; "
                "take a prior for such labels, or correct tasks.target_kind or tasks.classes"
            )
    (seen, s_known), (asked, q_known) = support, query
    missing = q_known & ~((asked[..., None] == seen[:, None]) & s_known[:, None]).any(-1)
    if missing.any():
        task, row = np.argwhere(missing)[0]
        raise ModelError(
            f"task {task + 1} of {len(seen)} asks for class {asked[task, row]:g}, which none of its "
            f"{int(s_known[task].sum())} support samples has; give schedule.shots {k} or more, one for each class"
        )


def smooth(params: Tensors, support: Batch, logits: Array) -> Prediction:
    """Return what the support's labels [n] say by the logits [q, n] of each query's likeness to each of them."""
    known = jnp.asarray(support.mask) > 0
    logits = jnp.where(known, logits, -jnp.inf)
    away = jnp.broadcast_to(params[AWAY][0], (len(logits), 1)).astype(logits.dtype)
    if BIAS in params:
        shares = jax.nn.log_softmax(jnp.concatenate([logits, away], 1))
        one_hot = (jnp.asarray(support.y, jnp.int32)[:, None] == jnp.arange(len(params[BIAS]))) & known[:, None]
        prior = jax.nn.log_softmax(params[BIAS]) + shares[:, -1:]
        votes = jnp.where(one_hot[None], shares[:, :-1, None], -jnp.inf)
        return Categorical(jax.nn.logsumexp(jnp.concatenate([votes, prior[:, None]], 1), axis=1))
    shares = jax.nn.softmax(jnp.concatenate([logits, away], 1))
    weights, own = shares[:, :-1], shares[:, -1]
    y = jnp.where(known, support.y, 0)
    mean = weights @ y + own * params[MEAN][0]
    apart = (weights * (y - mean[:, None]) ** 2).sum(1) + own * (params[MEAN][0] - mean) ** 2
    return Gaussian(mean, apart + own * jnp.exp(params[SPREAD][0]) + jnp.exp(params[NOISE][0]))


def surprise(prediction: Prediction, query: Batch) -> Array:
    """Return minus the log-likelihood of the query's labels, per label; 0 where all are padding."""
    return -log_likelihood(prediction, query).sum() / jnp.maximum((query.mask > 0).sum(), 1)
