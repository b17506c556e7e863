"""The meta-step of `metastep.py` in other libraries, each as its own documentation writes it; those that are installed.

None of them is a dependency: a peer that cannot be imported is named as missing.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

OUTER_RATE = 0.001

Weights = Mapping[str, np.ndarray]
"""`body/0/weight` [in, out] … `head/bias`, of the network 1-40-40-1 with ReLU."""

_LAYERS = ("body/0", "body/1", "head")


class Contestant(abc.ABC):
    """Somebody who takes meta-steps on one batch of tasks."""

    @abc.abstractmethod
    def step(self) -> None:
        """Take one meta-step, and be done with it."""

    @abc.abstractmethod
    def loss(self) -> float:
        """Return the mean loss on the queries after adapting, without taking a step."""


def torch_peers(
    weights: Weights, batch: Sequence[np.ndarray], inner_steps: int, inner_rate: float
) -> tuple[dict[str, Contestant], list[str]]:
    """Return the peers that are installed, and the names of those that are not."""
    makers: dict[str, tuple[str, Callable[..., Contestant]]] = {
        "torch.func vmap": ("torch", TorchFunc),
        "TorchOpt": ("torchopt", TorchOpt),
        "higher": ("higher", Higher),
        "learn2learn": ("learn2learn", Learn2learn),
    }
    here: dict[str, Contestant] = {}
    missing: list[str] = []
    for name, (package, make) in makers.items():
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(name)
        else:
            here[name] = make(weights, batch, inner_steps, inner_rate)
    return here, missing


class TorchFunc(Contestant):
    """PyTorch's own function transforms, over all tasks at once."""

    def __init__(self, weights: Weights, batch: Sequence[np.ndarray], inner_steps: int, inner_rate: float) -> None:
        import torch

        self._torch = torch
        self._weights = {name: torch.tensor(value) for name, value in weights.items()}
        self._batch, self._steps, self._rate = batch, inner_steps, inner_rate

    def step(self) -> None:
        slope, _ = self._torch.func.grad_and_value(self._meta_loss)(self._weights)
        self._weights = {name: value - OUTER_RATE * slope[name] for name, value in self._weights.items()}

    def loss(self) -> float:
        return float(self._meta_loss(self._weights))

    def _meta_loss(self, weights: dict[str, Any]) -> Any:
        torch = self._torch

        def one(xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
            fast = weights
            for _ in range(self._steps):
                slope = torch.func.grad(self._error)(fast, xs, ys)
                fast = {name: value - self._rate * slope[name] for name, value in fast.items()}
            return self._error(fast, xq, yq)

        return torch.vmap(one)(*(torch.from_numpy(a) for a in self._batch)).mean()

    def _error(self, weights: dict[str, Any], x: Any, y: Any) -> Any:
        h = x
        for layer in _LAYERS[:-1]:
            h = (h @ weights[f"{layer}/weight"] + weights[f"{layer}/bias"]).relu()
        h = h @ weights["head/weight"] + weights["head/bias"]
        return ((h[:, 0] - y) ** 2).mean()


class _Module(Contestant):
    """What the peers with modules share: a model, and a loop over tasks that calls each peer's own inner loop."""

    def __init__(self, weights: Weights, batch: Sequence[np.ndarray], inner_steps: int, inner_rate: float) -> None:
        import torch
        from torch import nn

        self._torch, self._batch, self._steps, self._rate = torch, batch, inner_steps, inner_rate
        layers = [nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)]
        self._model = nn.Sequential(*layers)
        with torch.no_grad():
            for name, layer in zip(_LAYERS, layers[::2]):
                layer.weight.copy_(torch.tensor(weights[f"{name}/weight"]).T)
                layer.bias.copy_(torch.tensor(weights[f"{name}/bias"]))
        self._optimiser = torch.optim.SGD(self._model.parameters(), lr=OUTER_RATE)

    def step(self) -> None:
        self._optimiser.zero_grad()
        self._all_tasks(backward=True)
        self._optimiser.step()

    def loss(self) -> float:
        total = self._all_tasks(backward=False)
        self._optimiser.zero_grad()
        return total

    @abc.abstractmethod
    def _task(self, xs: Any, ys: Any, xq: Any, yq: Any, finish: Callable[[Any], None]) -> None:
        """Adapt to one task and hand the query's loss to `finish` while the graph lives."""

    def _all_tasks(self, backward: bool) -> float:
        tensors = [self._torch.from_numpy(a) for a in self._batch]
        m, total = len(tensors[0]), []

        def finish(loss: Any) -> None:
            total.append(float(loss.detach()) / m)
            if backward:
                (loss / m).backward()

        for xs, ys, xq, yq in zip(*tensors):
            self._task(xs, ys, xq, yq, finish)
        return sum(total)

    def _error(self, model: Any, x: Any, y: Any) -> Any:
        return ((model(x)[:, 0] - y) ** 2).mean()


class TorchOpt(_Module):
    """TorchOpt's differentiable optimiser (its MAML example): one module, its state put back after each task."""

    def _task(self, xs: Any, ys: Any, xq: Any, yq: Any, finish: Callable[[Any], None]) -> None:
        import torchopt

        inner = torchopt.MetaSGD(self._model, lr=self._rate)
        start, begun = torchopt.extract_state_dict(self._model), torchopt.extract_state_dict(inner)
        for _ in range(self._steps):
            inner.step(self._error(self._model, xs, ys))
        finish(self._error(self._model, xq, yq))
        torchopt.recover_state_dict(self._model, start)
        torchopt.recover_state_dict(inner, begun)


class Higher(_Module):
    """higher's `innerloop_ctx`, as its README writes MAML."""

    def _task(self, xs: Any, ys: Any, xq: Any, yq: Any, finish: Callable[[Any], None]) -> None:
        import higher

        inner = self._torch.optim.SGD(self._model.parameters(), lr=self._rate)
        with higher.innerloop_ctx(self._model, inner, copy_initial_weights=False) as (model, optimiser):
            for _ in range(self._steps):
                optimiser.step(self._error(model, xs, ys))
            finish(self._error(model, xq, yq))


class Learn2learn(_Module):
    """learn2learn's MAML wrapper: clone, adapt."""

    def _task(self, xs: Any, ys: Any, xq: Any, yq: Any, finish: Callable[[Any], None]) -> None:
        import learn2learn

        learner = learn2learn.algorithms.MAML(self._model, lr=self._rate).clone()
        for _ in range(self._steps):
            learner.adapt(self._error(learner, xs, ys))
        finish(self._error(learner, xq, yq))
