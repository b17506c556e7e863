"""The prior: named tensors with one hash, the same on every machine.

A framework's own file (safetensors here) is for carrying it; only `Prior.encode` is ever hashed: little-endian
float32, names sorted, deterministic CBOR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from commonprior.canonical import decode, digest, encode
from commonprior.errors import MalformedMessage, ModelError

Tensors = Mapping[str, np.ndarray]

_MOST_AXES = 8


class Prior(NamedTuple):
    """What is learned in common: `params` are the meta-parameters, `state` the server step's (momentum, count)."""

    params: Tensors
    state: Tensors = {}  # noqa: RUF012 - a dict, because jax takes no other mapping apart

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"params": _tensors(self.params), "state": _tensors(self.state)})

    def with_state(self, state: Tensors) -> Prior:
        """Return the prior with these tensors added to its state, in the place of others of their names."""
        return Prior(self.params, {**self.state, **state})

    def hash(self) -> bytes:
        """Return the SHA-256 of the canonical bytes."""
        return digest(self.encode())

    @staticmethod
    def decode(data: bytes) -> Prior:
        """Return the prior whose canonical bytes these are, or raise `MalformedMessage`."""
        match decode(data):
            case {"params": dict() as params, "state": dict() as state, **rest} if not rest:
                return Prior(_arrays(params), _arrays(state))
            case _:
                raise MalformedMessage("expected a prior: a map of params and state")


class Contributions(NamedTuple):
    """What a site would add to the prior: `rows` [m, d] float, one a task or one for the whole site."""

    rows: np.ndarray
    unit: Literal["task", "site"]


def flatten(params: Tensors) -> np.ndarray:
    """Return the tensors as one vector [d] float64, by sorted name, each in C order."""
    if not params:
        return np.zeros(0)
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in sorted(params)])


def unflatten(vector: np.ndarray, like: Tensors) -> dict[str, np.ndarray]:
    """Cut a vector [d] into tensors named and shaped as `like`; the inverse of `flatten`."""
    size = sum(int(np.prod(np.shape(like[name]))) for name in like)
    if vector.shape != (size,):
        raise ModelError(f"expected a vector of {size} numbers, got shape {vector.shape}")
    out, at = {}, 0
    for name in sorted(like):
        shape = np.shape(like[name])
        n = int(np.prod(shape))
        out[name] = vector[at : at + n].reshape(shape)
        at += n
    return out


def save_prior(prior: Prior, path: Path) -> None:
    """Write a prior as safetensors: `params/NAME` and `state/NAME`, with its hash in the metadata."""
    tensors = {
        f"{part}/{name}": np.asarray(value, np.float32, order="C")
        for part, group in (("params", prior.params), ("state", prior.state))
        for name, value in group.items()
    }
    path.write_bytes(save(tensors, {"hash": prior.hash().hex()}))


def load_prior(path: Path) -> Prior:
    """Read what `save_prior` wrote."""
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: no prior here; run `commonprior train` first or name another run") from None
    except Exception as error:
        raise ModelError(f"{path}: not a safetensors file ({error}); restore it or train again") from None
    groups: dict[str, dict[str, np.ndarray]] = {"params": {}, "state": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part not in groups or not name:
            raise ModelError(f"{path}: tensor {key!r} is neither params/NAME nor state/NAME; it is no prior of ours")
        groups[part][name] = value
    return Prior(**groups)


def _tensors(tensors: Tensors) -> dict[str, Any]:
    return {name: [list(np.shape(a)), np.ascontiguousarray(a, "<f4").tobytes()] for name, a in tensors.items()}


def _arrays(encoded: Mapping[str, Any]) -> dict[str, np.ndarray]:
    out = {}
    for name, item in encoded.items():
        match item:
            case [list() as shape, bytes() as data] if len(shape) <= _MOST_AXES and all(
                type(n) is int and 0 <= n < 2**31 for n in shape
            ):
                if math.prod(max(n, 1) for n in shape) >= 2**31:  # numpy refuses it, empty or not
                    raise MalformedMessage(f"tensor {name}: shape {shape} is over 2^31 numbers")
                size = math.prod(shape)
                if size * 4 != len(data):
                    raise MalformedMessage(f"tensor {name}: shape {shape} needs {4 * size} bytes, got {len(data)}")
                out[name] = np.frombuffer(data, "<f4").reshape(shape)
            case _:
                raise MalformedMessage(f"tensor {name}: expected [shape, bytes]")
    return out
