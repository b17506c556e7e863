"""How a folder lists its own plug-ins: one file, one final frozen class, named in a recipe by its file's name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

from commonprior.errors import RecipeError

T = TypeVar("T")


def kinds(package: ModuleType) -> list[str]:
    """Return the names of a folder's plug-ins, sorted; a file whose name starts with `_` is none."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load(package: ModuleType, base: type[T], kind: str) -> type[T]:
    """Return the one class of plug-in `kind`, importing nothing but its file."""
    names = kinds(package)
    folder = package.__name__.rpartition(".")[2]
    if kind not in names:
        close = difflib.get_close_matches(str(kind), names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"
        raise RecipeError(f"{folder}: no kind {kind!r}; {hint}")
    try:
        module = importlib.import_module(f"{package.__name__}.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("commonprior"):
            raise
        raise RecipeError(f"{folder}: {kind!r} needs the package {error.name}, which is not installed") from None
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, base) and c is not base and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} holds {len(found)} plug-in classes, expected exactly one")
    return found[0]


def kind_of(plugin: object) -> str:
    """Return the name by which a recipe calls an instance's class."""
    return type(plugin).__module__.rpartition(".")[2]
