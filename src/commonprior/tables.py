"""Between nested tables (as TOML and CBOR hold them) and frozen dataclasses, both ways, with nothing ignored.

A field whose annotation is a plug-in's abstract class takes a table with `kind`; `Plugins` says in which folder that
kind is a file. Every mistake is one sentence: file, field, value, and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from types import FunctionType, MappingProxyType, ModuleType, NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from commonprior import plugin
from commonprior.errors import InputError, RecipeError

T = TypeVar("T")

Plugins: TypeAlias = Mapping[type, ModuleType]
"""Abstract class -> the folder of its plug-ins."""

NO_PLUGINS: Plugins = MappingProxyType({})


def build(cls: type[T], table: Mapping[str, Any], where: str, plugins: Plugins = NO_PLUGINS) -> T:
    """Build a frozen dataclass from nested tables; None stands for a field left out. Raises `RecipeError`."""
    return _Builder(where, plugins).dataclass(cls, without_none(table), "")


def without_none(value: Any) -> Any:
    """Return nested tables without their empty fields: TOML has no None."""
    if isinstance(value, Mapping):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    return [without_none(v) for v in value] if isinstance(value, list) else value


def to_table(value: Any, plugins: Plugins = NO_PLUGINS) -> Any:
    """Return a dataclass as nested tables of plain values, every default written out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table = {f.name: to_table(_written(f, getattr(value, f.name)), plugins) for f in dataclasses.fields(value)}
        is_plugin = any(isinstance(value, base) for base in plugins)
        return {"kind": plugin.kind_of(value), **table} if is_plugin else table
    if isinstance(value, Mapping):
        return {str(k): to_table(v, plugins) for k, v in value.items()}
    if isinstance(value, FunctionType):  # a network of one's own: named in the record, built only in Python
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, tuple | list):
        return [to_table(v, plugins) for v in value]
    return value


def _written(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return what stands for a value: what is there unless it is said to be off is off as `false`, not as nothing."""
    is_on = field.default_factory is not dataclasses.MISSING or field.default not in (None, dataclasses.MISSING)
    return False if value is None and is_on else value


class _Builder:
    """One reading of one file."""

    def __init__(self, file: str, plugins: Plugins) -> None:
        self._file, self._plugins = file, plugins

    def _value(self, annotation: Any, value: Any, at: str) -> Any:
        """Turn one value into what a field's annotation asks for."""
        if annotation in self._plugins:
            return self._plugin(annotation, value, at)
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            return self.dataclass(annotation, value, at)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis and isinstance(value, list | tuple):
            return tuple(self._value(arguments[0], item, f"{at}[{i}]") for i, item in enumerate(value))
        if origin in (typing.Union, UnionType) and value is not None:
            inner = [a for a in arguments if a is not NoneType]
            if value is False and bool not in inner and NoneType in arguments:
                return None
            if len(inner) == 1:
                return self._value(inner[0], value, at)
        return self._leaf(annotation, value, at)

    def _plugin(self, base: type, value: Any, at: str) -> Any:
        package = self._plugins[base]
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise RecipeError(
                f'{self._file}: {at}: expected a table with kind = "…", got {value!r}; '
                f"there are {', '.join(plugin.kinds(package))}"
            )
        try:
            cls = plugin.load(package, base, value["kind"])
        except RecipeError as error:
            raise RecipeError(f"{self._file}: {at}.kind: {error}") from None
        return self.dataclass(cls, {k: v for k, v in value.items() if k != "kind"}, at)

    def dataclass(self, cls: type, table: Any, at: str) -> Any:
        """Build one dataclass."""
        if not isinstance(table, Mapping):
            raise RecipeError(f"{self._file}: {at}: expected a table, got {table!r}")
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        hints = typing.get_type_hints(cls)
        for name in table:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, 1)
                names = ", ".join(sorted(fields)) or "none"
                hint = f"did you mean {close[0]!r}?" if close else f"expected one of {names}"
                raise RecipeError(f"{self._file}: {_join(at, name)}: unknown field; {hint}")
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in table:
                raise RecipeError(f"{self._file}: {_join(at, name)}: missing; add it")
        values = {name: self._value(hints[name], value, _join(at, name)) for name, value in table.items()}
        try:
            return cls(**values)
        except InputError as error:
            raise RecipeError(f"{self._file}: {error}") from None

    def _leaf(self, annotation: Any, value: Any, at: str) -> Any:
        if typing.get_origin(annotation) is Literal:
            choices = typing.get_args(annotation)
            if value not in choices or type(value) is not type(choices[choices.index(value)]):
                raise RecipeError(f"{self._file}: {at} = {value!r}: expected one of {', '.join(map(repr, choices))}")
            return value
        try:
            return TypeAdapter(annotation).validate_python(value, strict=annotation is not float)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise RecipeError(f"{self._file}: {at} = {value!r}: {message[:1].lower()}{message[1:]}") from None


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
