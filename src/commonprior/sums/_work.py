"""Which file says how much work a sum is: `_KIND_cost.py` beside the protocol, loaded when somebody asks."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from types import ModuleType

from commonprior import plugin
from commonprior.errors import RecipeError
from commonprior.session import Session
from commonprior.sums import SecureSum
from commonprior.work import Work


def work_of(kind: SecureSum, session: Session) -> Work:
    """Return the work of one attempt in which nobody drops out.

    Raises `RecipeError` where the sum does not fit the session, or has nobody who counted it.
    """
    name = plugin.kind_of(kind)
    costs = _costs(name)
    if costs is None:
        raise RecipeError(f"sum {name!r} does not say how much work it is; add sums/_{name}_cost.py")
    return costs.work(kind, session)


def variants_of(cls: type[SecureSum], session: Session) -> dict[str, SecureSum]:
    """Return a sum's settings worth comparing in a session, by name; one that needs settings of its own has none."""
    name = cls.__module__.rpartition(".")[2]
    variants = getattr(_costs(name), "variants", None)
    if variants is not None:
        return variants(cls, session)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType] - every plug-in is a dataclass
    required = [f for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    return {} if required else {name: cls()}


def _costs(name: str) -> ModuleType | None:
    module = f"commonprior.sums._{name}_cost"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None
