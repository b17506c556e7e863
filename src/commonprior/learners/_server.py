"""The server step: how everyone turns the mean update into the next prior, to the same last bit.

Elementwise IEEE arithmetic in one order (float64 inside, float32 out): additions, products, quotients and square roots
are correctly rounded everywhere, powers and exponentials are not, so there are none. The mean update is an improvement,
new minus old; Adam (Kingma & Ba, 2015) takes its negative for the gradient, which makes it FedAdam (Reddi et al.,
"Adaptive federated optimization", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.prior import Prior, Tensors

_STEP, _FIRST, _SECOND = "server/step", "server/first/", "server/second/"

_COUNTED = 1 << 24
"""Beyond this a float32 counts no further; both bias corrections are 1 long before."""


@final
@dataclass(frozen=True)
class ServerStep:
    """`mean` adds rate times the update; `momentum` and `adam` are the optimisers of these names.

    `fades`: so many rounds take the rate evenly from `rate` to 0, and the prior to rest; 0 leaves it as it is.
    """

    kind: Literal["mean", "momentum", "adam"] = "adam"
    rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    fades: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise RecipeError(f"server.rate = {self.rate}: expected a number above 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"server.{name} = {getattr(self, name)}: expected 0 to just under 1")
        if not self.epsilon > 0:
            raise RecipeError(f"server.epsilon = {self.epsilon}: expected a number above 0")
        if not 0 <= self.fades < _COUNTED:
            raise RecipeError(f"server.fades = {self.fades}: expected 0, or rounds below {_COUNTED}")

    def begin(self, params: Tensors) -> Prior:
        """Return the prior of round 0: these parameters, and no momentum yet."""
        zeros = {name: np.zeros(np.shape(value), np.float32) for name, value in params.items()}
        state: dict[str, np.ndarray] = {}
        if self.kind != "mean":
            state |= {_FIRST + name: zero for name, zero in zeros.items()}
        if self.kind == "adam":
            state |= {_SECOND + name: zero for name, zero in zeros.items()}
        if self.kind == "adam" or self.fades:
            state[_STEP] = np.zeros(1, np.float32)
        return Prior(dict(params), state)

    def apply(self, prior: Prior, mean: np.ndarray) -> Prior:
        """Return the next prior from the mean update [d], laid out as `flatten` lays out the parameters.

        Raises `ModelError` for a mean of another length.
        """
        old, mean = _vector(prior.params), np.asarray(mean, np.float64)
        if mean.shape != old.shape:
            raise ModelError(f"expected a mean update of {old.size} numbers, got shape {mean.shape}")
        step, state = 0, {}
        if _STEP in prior.state:
            step = min(int(prior.state[_STEP][0]) + 1, _COUNTED)
            state = {_STEP: np.full(1, step, np.float32)}
        rate = self.rate * max(0.0, 1 - (step - 1) / self.fades) if self.fades else self.rate
        match self.kind:
            case "mean":
                return Prior(_named(old + rate * mean, prior.params), state)
            case "momentum":
                first = self.beta1 * _vector(_part(prior.state, _FIRST)) + mean
                state |= _named(first, prior.params, _FIRST)
                return Prior(_named(old + rate * first, prior.params), state)
            case "adam":
                new, moments = self._adam(prior, old, mean, rate, step)
                return Prior(new, state | moments)

    def _adam(
        self, prior: Prior, old: np.ndarray, mean: np.ndarray, rate: float, step: int
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        first = self.beta1 * _vector(_part(prior.state, _FIRST)) + (1 - self.beta1) * mean
        second = self.beta2 * _vector(_part(prior.state, _SECOND)) + (1 - self.beta2) * (mean * mean)
        towards = first / (1 - _power(self.beta1, step))
        size = np.sqrt(second / (1 - _power(self.beta2, step)))
        new = old + rate * (towards / (size + self.epsilon))
        return _named(new, prior.params), {
            **_named(first, prior.params, _FIRST), **_named(second, prior.params, _SECOND),
        }  # fmt: skip


def _power(base: float, exponent: int) -> float:
    """Return base to a positive integer by squaring: products round alike everywhere, libm's `pow` does not."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _vector(tensors: Tensors) -> np.ndarray:
    # `prior.flatten` for what is known to be arrays, in one pass: this is most of what a step costs beside learning.
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)], dtype=np.float64)


def _named(vector: np.ndarray, like: Tensors, prefix: str = "") -> dict[str, np.ndarray]:
    vector, out, at = vector.astype(np.float32), {}, 0
    for name in sorted(like):
        n = like[name].size
        out[prefix + name] = vector[at : at + n].reshape(like[name].shape)
        at += n
    return out


def _part(state: Tensors, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
