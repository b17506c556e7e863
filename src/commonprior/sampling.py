"""What one round draws from a site's tasks, and the one way in which anything derives its randomness from a seed.

Every draw says who makes it: the parts (run seed, round, site, purpose, …) pass through SHA-256, so two purposes never
share a stream, and nothing depends on the order in which sites or contestants happen to run. Learning only: masks and
privacy noise come from a `csprng`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.canonical import Value, digest
from commonprior.errors import DataError
from commonprior.task import Array, Pool, Target, Task, stack, standardise

_DOMAIN = "commonprior/sampling/1"

FAR = 10.0
"""No label is learned as being further from its support's mean, in the support's deviations."""


def derive_seed(*parts: Value) -> int:
    """Return 63 bits that only these parts, in this order, give: for whatever wants an integer seed."""
    return int.from_bytes(_bytes(parts)[:8], "little") >> 1


def generator(*parts: Value) -> np.random.Generator:
    """Return the numpy generator of these parts."""
    return np.random.default_rng(int.from_bytes(_bytes(parts), "little"))


def learning_key(*parts: Value) -> Array:
    """Return the jax PRNG key of these parts."""
    # The generator is named, so that a process with another jax default still draws the same numbers.
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(_bytes(parts)[:8], "<u4")), impl="threefry2x32")


def sample_tasks(
    pools: Sequence[Pool], rng: np.random.Generator, tasks: int, shots: int, queries: int, target: Target
) -> Task:
    """Return m stacked tasks (leaves [m, ...]) with standardised labels, m = min(tasks, len(pools)).

    The pools are distinct: where the unit of privacy is the task, no task may stand in two rows of one release. A
    family that makes up its tasks as it goes offers many pools.

    What is learned from here are labels of at most `FAR` of their support's deviations, either way: where a few samples
    happen to be alike, the next is thousands away, and one such task in a hundred would lead everybody.
    """
    for name, value in (("tasks", tasks), ("shots", shots), ("queries", queries)):
        if value < 1:
            raise DataError(f"cannot draw {name} = {value}: expected at least 1")
    if not pools:
        raise DataError("a site without tasks cannot take part in a round; give it one or leave it out")
    chosen = rng.choice(len(pools), min(tasks, len(pools)), replace=False)
    drawn = stack([pools[i].episode(rng, shots, queries) for i in chosen])
    task = standardise(drawn, target)[0]
    if target.kind == "classification" or target.scaling == "public":
        return task
    return task._replace(query=task.query._replace(y=np.clip(task.query.y, -FAR, FAR)))


def _bytes(parts: Sequence[Value]) -> bytes:
    return digest([_DOMAIN, *parts])
