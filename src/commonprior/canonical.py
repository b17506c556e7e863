"""The one way in which anything becomes bytes: deterministic CBOR (RFC 8949, section 4.2) and SHA-256.

Whatever is hashed, signed, journalled or sent passes through `encode`; whatever arrives passes through
`decode`, which takes only the one encoding that `encode` would have produced, so that two different byte
strings never mean the same thing. No floats of other widths, tags, indefinite lengths or duplicate keys.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import cbor2

from commonprior.errors import MalformedMessage

Value: TypeAlias = "bool | int | float | bytes | str | Sequence[Value] | Mapping[str, Value] | None"

MAX_DEPTH = 16
"""No message nests deeper; a decoder that recursed further could be made to overflow."""

_STRINGS, _TAG, _SIMPLE = (2, 3), 6, 7
_KNOWN = (20, 21, 22, 25, 26, 27)
"""False, true, null and floats; cbor2 hands other simple values out as tuples."""
_ONE_BYTE, _EIGHT_BYTES = 24, 27


def encode(value: Value) -> bytes:
    """Return the deterministic CBOR of `value`; mappings have text keys, floats are finite."""
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, limit: int = 1 << 30) -> Value:
    """Return the value whose `encode` is exactly `data`, or raise `MalformedMessage`."""
    if len(data) > limit:
        raise MalformedMessage(f"expected at most {limit} bytes, got {len(data)}")
    _refuse_tags(data)
    stream = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream, str_errors="strict").decode()
    except Exception as error:  # cbor2 raises a dozen types on hostile bytes; to us they are all one refusal
        raise MalformedMessage(f"{len(data)} bytes are not CBOR: {type(error).__name__}") from None
    if stream.read(1):
        raise MalformedMessage(f"{len(data)} bytes go on after the CBOR item ended")
    _check(value, 0)
    if cbor2.dumps(value, canonical=True) != data:
        raise MalformedMessage(f"{len(data)} bytes of CBOR are not in their deterministic form")
    return value


def begins_whole(data: bytes) -> bool:
    """Say whether bytes begin with a whole item, whatever follows it."""
    try:
        cbor2.CBORDecoder(io.BytesIO(data)).decode()
    except Exception:  # cbor2 raises a dozen types
        return False
    return True


def digest(value: Value | bytes) -> bytes:
    """Return the SHA-256 of `value`'s deterministic CBOR; of `value` itself where it is bytes."""
    return hashlib.sha256(value if isinstance(value, bytes) else encode(value)).digest()


def _refuse_tags(data: bytes) -> None:
    """Raise `MalformedMessage` for a tag, a simple value or an indefinite length, before anything is built of them.

    The decoder knows tags of its own. Shared references (28, 29) let 300 bytes stand for more items than there is time
    to look at, and they would be looked at before any signature.
    """
    at = 0
    while at < len(data):
        kind, low = data[at] >> 5, data[at] & 31
        if kind == _TAG or low > _EIGHT_BYTES or (kind == _SIMPLE and low not in _KNOWN):
            raise MalformedMessage(f"the CBOR item at byte {at} is a tag or a simple value, or has no definite length")
        size = 1 << (low - _ONE_BYTE) if low >= _ONE_BYTE else 0
        at += 1 + size
        if kind in _STRINGS:
            at += int.from_bytes(data[at - size : at], "big") if size else low


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedMessage(f"nested deeper than {MAX_DEPTH}")
    match value:
        case bytes() | None | bool():
            return
        case str():
            if not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
                raise MalformedMessage("text with half a surrogate pair is not UTF-8")
        case int():
            if not -(2**63) <= value < 2**64:
                raise MalformedMessage(f"integer {value} needs more than 64 bits")
        case float():
            if not math.isfinite(value):
                raise MalformedMessage(f"{value} is not a finite number")
        case list() | tuple():
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                if type(item) is not bytes:  # pyright: ignore[reportUnknownArgumentType]
                    _check(item, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
        case Mapping():
            for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
                if not isinstance(key, str):
                    raise MalformedMessage(f"key {key!r} is not text")
                _check(item, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            raise MalformedMessage(f"{type(value).__name__} has no place in a message")
