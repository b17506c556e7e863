"""A contract as its artefact describes it: how its functions are called, and what its answers and events mean."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_abi.codec import ABICodec
from eth_abi.decoding import ByteStringDecoder
from eth_abi.exceptions import InsufficientDataBytes
from eth_abi.registry import BaseEquals, registry
from eth_hash.auto import keccak

from commonprior.errors import LedgerError
from commonprior.ledger import Log


class _Bytes(ByteStringDecoder):
    """Byte strings as Vyper reads them: what fills up the last word says nothing, and whoever sends it chooses it."""

    def read_data_from_stream(self, stream: Any) -> bytes:
        length = int.from_bytes(stream.read(32), "big")
        data = stream.read(-(-length // 32) * 32)
        if len(data) < length:
            raise InsufficientDataBytes(f"{len(data)} bytes of {length}")
        return data[:length]


def _codec() -> ABICodec:
    lenient = registry.copy()
    lenient.unregister_decoder("bytes")
    lenient.register_decoder(BaseEquals("bytes", with_sub=False), _Bytes, label="bytes")
    return ABICodec(lenient)


_CODEC = _codec()

CONTRACTS = ("Token", "Quorum", "Registry", "Rounds", "Disputes", "Rewards")
"""In the order in which they are deployed."""


class Function(NamedTuple):
    """A function's selector (4 bytes) and the types of what goes in and comes out."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def encode(self, values: Sequence[Any]) -> bytes:
        """Return the call's data."""
        return self.selector + encode(self.inputs, values)

    def decode(self, data: bytes) -> Any:
        """Return the answer: one value, or a tuple of several."""
        values = _decoded(self.outputs, data)
        return values[0] if len(values) == 1 else values


class Event(NamedTuple):
    """An event of a contract with its values by name."""

    contract: str
    name: str
    values: Mapping[str, Any]


class Artefact:
    """What the compiler made of a contract."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.name: str = table["contract"]
        self.bytecode = bytes.fromhex(table["bytecode"])
        self._runtime: tuple[int, str] = (table["runtime_bytes"], table["runtime_sha256"])
        self.functions: dict[str, Function] = {}
        self._events: dict[bytes, Mapping[str, Any]] = {}
        self._constructor: tuple[str, ...] = ()
        for item in table["abi"]:
            inputs = tuple(_type(i) for i in item["inputs"])
            if item["type"] == "constructor":
                self._constructor = inputs
            elif item["type"] == "event":
                self._events[keccak(f"{item['name']}({','.join(inputs)})".encode())] = item
            else:
                selector = keccak(f"{item['name']}({','.join(inputs)})".encode())[:4]
                self.functions[item["name"]] = Function(selector, inputs, tuple(_type(o) for o in item["outputs"]))

    def creation(self, values: Sequence[Any]) -> bytes:
        """Return the data of the transaction that makes the contract."""
        return self.bytecode + encode(self._constructor, values)

    def is_code(self, code: bytes) -> bool:
        """Say whether deployed code is this contract's; what was fixed when it was made stands behind it."""
        size, expected = self._runtime
        return hashlib.sha256(code[:size]).hexdigest() == expected

    def event(self, log: Log) -> Event:
        """Return what a log says; raise `LedgerError` for one that this contract cannot have written."""
        item = self._events.get(log.topics[0]) if log.topics else None
        if item is None:
            raise LedgerError(
                f"a log of {log.address.hex()} is none of {self.name}'s: it is a contract of another version"
            )
        values, topics = {}, list(log.topics[1:])
        plain = [i for i in item["inputs"] if not i["indexed"]]
        body = _decoded([_type(i) for i in plain], log.data)
        for i in item["inputs"]:
            values[i["name"]] = _decoded([_type(i)], topics.pop(0))[0] if i["indexed"] else None
        values |= {i["name"]: value for i, value in zip(plain, body, strict=True)}
        return Event(self.name, item["name"], values)

    def call_of(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """Return which function a transaction's data calls, and with what."""
        for name, function in self.functions.items():
            if data[:4] == function.selector:
                return name, _decoded(function.inputs, data[4:])
        raise LedgerError(f"a call of {self.name} with selector {data[:4].hex()}: it is a contract of another version")


@functools.cache
def artefact(name: str) -> Artefact:
    """Return the artefact of one of `CONTRACTS`."""
    file = resources.files("commonprior.ledger") / "artefacts" / f"{name}.json"
    return Artefact(json.loads(file.read_text()))


def reason_of(output: bytes) -> str:
    """Return what a contract said when it refused."""
    if output[:4] == bytes.fromhex("08c379a0"):
        return decode(["string"], output[4:])[0]
    return "it gave no reason" if not output else f"0x{output.hex()[:64]}"


def _decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Return values as the contracts read them, which look at no padding; raise `LedgerError` for what is none."""
    try:
        return _CODEC.decode(types, data)
    except Exception as error:  # eth_abi's own dozen types
        raise LedgerError(f"{len(data)} bytes are not {', '.join(types)}: {type(error).__name__}") from None


def _type(item: Mapping[str, Any]) -> str:
    kind: str = item["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(c) for c in item['components'])}){kind.removeprefix('tuple')}"
