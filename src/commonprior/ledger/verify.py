"""Verify a run's record with Python's standard library alone; over 400 lines, as it must be one file that one can read.

    python verify.py RUN_FOLDER [--trust HEX_KEY ...] [--head HEX]

An auditor needs this file, Python 3.11 and the run's folder, and nothing of commonprior: it imports nothing but the
standard library and runs under `python -I -S`. It says what it checked and what it did not; exit code 0: the record
holds; 2: it does not, and one sentence names the first thing that does not. The formats are those of
docs/spec/record.md. `trust` names sites' keys and `head` the last entry's hash, known from elsewhere: a record that was
cut short, or made anew under other keys, looks whole by itself.

Order: CBOR; Ed25519; Keccak-256 and secp256k1; transactions and their data; entries; the journal; the chain; the run.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import struct
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Refused(Exception):
    """What does not hold, in one sentence."""


class Report(NamedTuple):
    """What holds. `means` are the recomputed means of public deltas, in the chain's order."""

    rounds: int
    head: bytes
    prior: bytes
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    means: tuple[bytes, ...]


# Deterministic CBOR (RFC 8949, section 4.2): the one encoding of each value, nothing else


def decode(data: bytes) -> Any:
    """Return the value whose `encode` is exactly `data`."""
    try:
        value, end = _item(data, 0, 0)
    except IndexError:
        raise Refused(f"{len(data)} bytes of CBOR end before their item does") from None
    if end != len(data):
        raise Refused(f"{len(data)} bytes go on after their CBOR item has ended at byte {end}")
    return value


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind, low = data[at] >> 5, data[at] & 31
    if depth > 16 or low > 27 or kind == 6:
        raise Refused(f"the CBOR item at byte {at} is a tag, has no definite length, or lies deeper than 16")
    if kind == 7:
        return _simple(data, at, low)
    number, start = low, at + 1
    if low > 23:
        start += 1 << low - 24
        number = int.from_bytes(data[at + 1 : start], "big")
        if start > len(data) or number < (24, 1 << 8, 1 << 16, 1 << 32)[low - 24]:
            raise Refused(f"the CBOR item at byte {at} is not in its shortest form")
    if kind < 2:
        if kind == 1 and number >= 1 << 63:
            raise Refused(f"the CBOR integer at byte {at} needs more than 64 bits")
        return (number, -1 - number)[kind], start
    if kind < 4:
        if start + number > len(data):
            raise Refused(f"the CBOR string at byte {at} goes on after the end")
        part = data[start : start + number]
        try:
            return (part if kind == 2 else part.decode()), start + number
        except UnicodeDecodeError:
            raise Refused(f"the CBOR text at byte {at} is not UTF-8") from None
    if kind == 4:
        items = []
        for _ in range(number):
            item, start = _item(data, start, depth + (data[start] >> 5 != 2))  # a list may hold bytes however deep
            items.append(item)
        return items, start
    table: dict[str, Any] = {}
    last = b""
    for _ in range(number):
        key, end = _item(data, start, 0)
        if type(key) is not str or data[start:end] <= last:
            raise Refused(f"the CBOR key at byte {start} is not text, or not after the key before it")
        last = data[start:end]
        table[key], start = _item(data, end, depth + 1)
    return table, start


def _simple(data: bytes, at: int, low: int) -> tuple[Any, int]:
    if low in (20, 21, 22):
        return (False, True, None)[low - 20], at + 1
    if low < 25:
        raise Refused(f"the CBOR item at byte {at} is of an unknown kind")
    part = data[at + 1 : at + 1 + (1 << low - 24)]
    value = struct.unpack(">" + "efd"[low - 25], part)[0] if len(part) == 1 << low - 24 else math.nan
    if not math.isfinite(value) or encode(value) != data[at : at + 1] + part:
        raise Refused(f"the CBOR number at byte {at} is not finite, or not in its shortest form")
    return value, at + 1 + len(part)


def encode(value: Any) -> bytes:
    """Return the deterministic CBOR of a value that has one."""
    match value:
        case None | bool():
            return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case float():
            return _shortest(value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case dict():
            items = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(5, len(items)) + b"".join(key + item for key, item in items)
        case _:
            return _head(4, len(value)) + b"".join(map(encode, value))


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    size = next(size for size in range(4) if number < 1 << (8 << size))
    return bytes([kind << 5 | 24 + size]) + number.to_bytes(1 << size, "big")


def _shortest(value: float) -> bytes:
    for first, form in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return first + packed
    return b"\xfb" + struct.pack(">d", value)


def digest(value: Any) -> bytes:
    """Return the SHA-256 of bytes, or of another value's CBOR."""
    return hashlib.sha256(value if isinstance(value, bytes) else encode(value)).digest()


# Curves: multiples of a point from tables, the same for both


def _table(point: Any, width: int, zero: Any, add: Any, flat: Any) -> list[list[Any]]:
    """Return rows of the multiples 0, 1, ... 2^width - 1 of point, of 2^width · point, and so on for 256 bits."""
    multiples, count = [], 1 << width
    for _ in range(-(-256 // width)):
        current = zero
        for _ in range(count):
            current = add(current, point)
            multiples.append(current)
        point = flat([current])[0]
    points = flat(multiples)
    return [[None, *points[at : at + count - 1]] for at in range(0, len(points), count)]


def _times(table: list[list[Any]], scalar: int, total: Any, add: Any) -> Any:
    """Return total + scalar · the table's point."""
    mask, width = len(table[0]) - 1, len(table[0]).bit_length() - 1
    for row in table:
        if digit := scalar & mask:
            total = add(total, row[digit])
        scalar >>= width
    return total


def _walk(point: Any, scalar: int, zero: Any, add: Any, double: Any) -> Any:
    """Return scalar · point without a table: for a point that is used only a few times."""
    total = zero
    for bit in f"{scalar:b}":
        total = double(total)
        if bit == "1":
            total = add(total, point)
    return total


def _inverses(values: Sequence[int], prime: int) -> list[int]:
    """Return the inverses of numbers other than 0, for the price of one (Montgomery's trick)."""
    products = [1]
    for value in values:
        products.append(products[-1] * value % prime)
    left, out = pow(products.pop(), -1, prime), []
    for value, product in zip(reversed(values), reversed(products), strict=True):
        out.append(left * product % prime)
        left = left * value % prime
    return out[::-1]


# Ed25519 (RFC 8032). Points: X, Y, Z, T; in tables y + x, y - x, 2dxy

_P, _L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_D = 37095705934669439343138083508754565189542113879843219016388785533085940283555
_ZERO = (0, 1, 1, 0)


def verify_ed25519(key: bytes, signature: bytes, message: bytes, often: bool = True) -> bool:
    """Say whether `signature` is `key`'s signature of `message`: s below the group's order, points canonical, and no
    cofactor. `often`: the key is worth a table.
    """
    s = int.from_bytes(signature[32:], "little")
    if len(key) != 32 or len(signature) != 64 or s >= _L:
        return False
    minus = _minus_key(key)
    if minus is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _L
    total = _times(_key_table(minus), h, _ZERO, _ed_add) if often else _walk(minus, h, _ZERO, _ed_add, _ed_double)
    x, y, z, _ = _times(_base_table(), s, total, _ed_add)
    inverse = pow(z, -1, _P)
    return (y * inverse % _P | (x * inverse % _P & 1) << 255).to_bytes(32, "little") == signature[:32]


def _ed_add(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    x, y, z, t = p
    a, b, c = (y - x) * q[1], (y + x) * q[0], t * q[2] % _P
    e, h, f, g = (b - a) % _P, (b + a) % _P, z + z - c, z + z + c
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _ed_double(p: tuple[int, ...]) -> tuple[int, ...]:
    x, y, z, _ = p
    a, b = x * x, y * y
    h, g = (a + b) % _P, (a - b) % _P
    e, f = (h - (x + y) ** 2) % _P, (2 * z * z + g) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _ed_flat(points: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    out = []
    for (x, y, _, _), inverse in zip(points, _inverses([p[2] for p in points], _P), strict=True):
        x, y = x * inverse % _P, y * inverse % _P
        out.append(((y + x) % _P, (y - x) % _P, 2 * _D * x * y % _P))
    return out


@functools.lru_cache(4096)
def _minus_key(key: bytes) -> tuple[int, ...] | None:
    """Return minus the point that a key stands for, or None where it is no canonical point."""
    number = int.from_bytes(key, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * v**3 * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if y >= _P or v * x * x % _P != u or (x == 0 and sign):
        return None
    return _ed_flat([(x if x & 1 != sign else _P - x, y, 1, 0)])[0]


@functools.lru_cache(512)
def _key_table(point: tuple[int, ...]) -> list[list[Any]]:
    return _table(point, 5, _ZERO, _ed_add, _ed_flat)


@functools.cache
def _base_table() -> list[list[Any]]:
    base = (
        15112221349535400772501151409588531511454012693041857206046113283949847762202,
        4 * pow(5, -1, _P) % _P,
        1,
        0,
    )
    return _table(_ed_flat([base])[0], 8, _ZERO, _ed_add, _ed_flat)


# Keccak-256, and secp256k1 with the signer's account recovered. Points: X / Z², Y / Z³, or None; in tables x, y

_TURNS = (1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44)
_PLACES = (10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1)
_FROM = dict(zip(_PLACES, zip((1, *_PLACES), _TURNS, strict=False), strict=True)) | {0: (0, 0)}
_MOVES = tuple((_FROM[i][0], _FROM[i][0] % 5, _FROM[i][1], 64 - _FROM[i][1]) for i in range(25))
_ROUNDS = (
    0x1, 0x8082, 0x800000000000808A, 0x8000000080008000, 0x808B, 0x80000001, 0x8000000080008081, 0x8000000000008009,
    0x8A, 0x88, 0x80008009, 0x8000000A, 0x8000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x800A, 0x800000008000000A, 0x8000000080008081, 0x8000000000008080,
    0x80000001, 0x8000000080008008,
)  # fmt: skip
_MASK = 2**64 - 1


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 of data, as the EVM has it: not SHA3-256, whose padding differs."""
    padded = bytearray(data + b"\x01" + bytes(-(len(data) + 1) % 136))
    padded[-1] |= 0x80
    state = [0] * 25
    for at in range(0, len(padded), 136):
        for i, lane in enumerate(struct.unpack_from("<17Q", padded, at)):
            state[i] ^= lane
        state = _permuted(state)
    return struct.pack("<4Q", *state[:4])


def _permuted(a: list[int]) -> list[int]:
    for constant in _ROUNDS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ (c[x - 4] << 1 & _MASK | c[x - 4] >> 63) for x in range(5)]
        b = [(v := a[i] ^ d[x]) << left & _MASK | v >> right for i, x, left, right in _MOVES]
        a = []
        for i in (0, 5, 10, 15, 20):
            p, q, r, s, t = b[i : i + 5]
            a += (p ^ ~q & r, q ^ ~r & s, r ^ ~s & t, s ^ ~t & p, t ^ ~p & q)
        a[0] ^= constant
    return a


_Q = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
      0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)  # fmt: skip


class Voters:
    """Who signed what: each account's point is kept once it is known, as checking against it is cheaper."""

    def __init__(self) -> None:
        self._points: dict[bytes, tuple[int, int]] = {}
        self._found: dict[tuple[bytes, bytes], bytes | None] = {}
        self._cast: dict[tuple[bytes, bytes, int, int], bytes] = {}

    def cast(self, who: bytes, run: bytes, round_: int, attempt: int, hashed: bytes) -> None:
        """Take note of a ballot; refuse two different ones of one account in one attempt."""
        if self._cast.setdefault((who, run, round_, attempt), hashed) != hashed:
            raise Refused(f"0x{who.hex()} cast two different ballots in round {round_}, attempt {attempt}")

    def signer(self, hashed: bytes, signature: bytes, expected: bytes = b"") -> bytes | None:
        """Return the account (20 bytes) that signed a hash with r, s (the lower one) and 27 or 28, or None."""
        if (hashed, signature) not in self._found:
            self._found[hashed, signature] = self._signer(hashed, signature, expected)
        return self._found[hashed, signature]

    def _signer(self, hashed: bytes, signature: bytes, expected: bytes) -> bytes | None:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        if len(signature) != 65 or signature[64] not in (27, 28) or not (0 < r < _N and 0 < s <= _N // 2):
            return None
        z, odd, point = int.from_bytes(hashed, "big"), signature[64] - 27, self._points.get(expected)
        if point is not None:
            inverse = pow(s, -1, _N)
            shown = _times(_base(), z * inverse % _N, None, _add)
            shown = _times(_often(point), r * inverse % _N, shown, _add)
            if shown is not None and (x := _flat([shown])[0])[0] == r and x[1] & 1 == odd:
                return expected
        y = pow(r**3 + 7, (_Q + 1) // 4, _Q)
        if (y * y - r**3 - 7) % _Q:
            return None
        inverse = pow(r, -1, _N)
        key = _walk((r, y if y & 1 == odd else _Q - y), s * inverse % _N, None, _add, _double)
        key = _times(_base(), -z * inverse % _N, key, _add)
        if key is None:
            return None
        x, y = _flat([key])[0]
        account = keccak(x.to_bytes(32, "big") + y.to_bytes(32, "big"))[12:]
        self._points[account] = (x, y)
        return account


def _add(p: tuple[int, int, int] | None, q: tuple[int, int]) -> tuple[int, int, int] | None:
    if p is None:
        return (*q, 1)
    x, y, z = p
    square = z * z % _Q
    h, r = (q[0] * square - x) % _Q, (q[1] * square * z - y) % _Q
    if h == 0:
        return _double(p) if r == 0 else None
    hh = h * h % _Q
    cube, v = h * hh % _Q, x * hh % _Q
    x = (r * r - cube - 2 * v) % _Q
    return x, (r * (v - x) - y * cube) % _Q, z * h % _Q


def _double(p: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    if p is None:
        return None
    x, y, z = p
    square = y * y % _Q
    s, m = 4 * x * square % _Q, 3 * x * x
    x = (m * m - 2 * s) % _Q
    return x, (m * (s - x) - 8 * square * square) % _Q, 2 * y * z % _Q


def _flat(points: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    out = []
    for (x, y, _), inverse in zip(points, _inverses([p[2] for p in points], _Q), strict=True):
        square = inverse * inverse % _Q
        out.append((x * square % _Q, y * square * inverse % _Q))
    return out


@functools.lru_cache(512)
def _often(point: tuple[int, int]) -> list[list[Any]]:
    return _table(point, 5, None, _add, _flat)


@functools.cache
def _base() -> list[list[Any]]:
    return _table(_G, 8, None, _add, _flat)


# Transactions (EIP-1559, type 2, in RLP), what they say (the contracts' ABI), and ballots (EIP-712)


class Transaction(NamedTuple):
    """What stands in a block: `hashed` is what its sender signed."""

    chain: int
    nonce: int
    gas: int
    to: bytes
    data: bytes
    hashed: bytes
    signature: bytes


def read_transaction(raw: bytes) -> Transaction:
    """Return the transaction whose only bytes these are: no value, no access list."""
    try:
        nested, first, end = _rlp(raw, 1)
        at, cut, parts = first, first, []
        while at < end:
            inside, start, at = _rlp(raw, at)
            parts.append([] if inside and start == at else None if inside else raw[start:at])
            cut = at if len(parts) == 9 else cut
    except IndexError:
        raise Refused("a transaction that ends before its last field does") from None
    match parts:
        case [bytes() as chain, bytes() as nonce, bytes() as tip, bytes() as fee, bytes() as gas, bytes() as to, b"",
              bytes() as data, [], bytes() as parity, bytes() as r, bytes() as s]:  # fmt: skip
            numbers = (chain, nonce, tip, fee, gas, parity, r, s)
        case _:
            raise Refused("expected a transaction without value or access list")
    if raw[0] != 2 or not nested or end != len(raw) or any(n[:1] == b"\0" or len(n) > 32 for n in numbers):
        raise Refused("a transaction of another type than 2, or in other bytes than its own")
    if len(to) not in (0, 20) or parity not in (b"", b"\1"):
        raise Refused("expected a transaction to an address of 20 bytes, signed with 65")
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes([27 + len(parity)])
    number, count, limit = (int.from_bytes(n, "big") for n in (chain, nonce, gas))
    return Transaction(number, count, limit, to, data, keccak(b"\x02" + _list(raw[first:cut])), signature)


def _rlp(data: bytes, at: int) -> tuple[bool, int, int]:
    """Return whether the item at a place is a list, and where what it holds begins and ends."""
    first = data[at]
    if first < 0x80:
        return False, at, at + 1
    nested, size, start = first >= 0xC0, first & 0x3F, at + 1
    if size > 55:
        start += size - 55
        size = int.from_bytes(data[at + 1 : start], "big")
        if size < 56 or data[at + 1] == 0:
            raise Refused(f"the RLP item at byte {at} is not in its shortest form")
    if start + size > len(data) or (size == 1 and not nested and data[start] < 0x80):
        raise Refused(f"the RLP item at byte {at} goes on after the end, or is not in its shortest form")
    return nested, start, start + size


def _list(payload: bytes) -> bytes:
    size = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return (bytes([0xC0 + len(payload)]) if len(payload) < 56 else bytes([0xF7 + len(size)]) + size) + payload


def address_made(creator: bytes, nonce: int) -> bytes:
    """Return the address of the contract that an account's transaction of this nonce makes."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    short = number if len(number) == 1 and number[0] < 0x80 else bytes([0x80 + len(number)]) + number
    return keccak(_list(b"\x94" + creator + short))[12:]


def arguments(kinds: str, data: bytes) -> list[Any]:
    """Return the values that stand in a call's data, such as "bytes32,address[],(uint256,bytes)" describes them."""
    return _values(_kinds(kinds), data, 0)


@functools.cache
def _kinds(text: str) -> tuple[str, ...]:
    out, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            out.append("")
        else:
            out[-1] += letter
    return tuple(out) if text else ()


@functools.cache
def _size(kind: str) -> int:
    """Return how many words a value takes in its place; 0 where it lies elsewhere."""
    if kind == "bytes" or kind.endswith("[]"):
        return 0
    sizes = [_size(k) for k in _kinds(kind[1:-1])] if kind[0] == "(" else [1]
    return 0 if 0 in sizes else sum(sizes)


def _values(kinds: Sequence[str], data: bytes, base: int) -> list[Any]:
    out, at = [], base
    for kind in kinds:
        size = _size(kind)
        out.append(_read(kind, data, at if size else base + _number(data, at)))
        at += 32 * (size or 1)
    return out


def _read(kind: str, data: bytes, at: int) -> Any:
    if kind == "bytes":
        size = _number(data, at)
        if at + 32 + size > len(data):
            raise Refused("a call's data end before its arguments do")
        return data[at + 32 : at + 32 + size]
    if kind.endswith("[]"):
        count = _number(data, at)
        if count > 256:
            raise Refused(f"a list of {count} arguments, at most 256")
        return _values([kind[:-2]] * count, data, at + 32)
    if kind[0] == "(":
        return _values(_kinds(kind[1:-1]), data, at)
    number = _number(data, at)
    if kind == "address" and number >> 160:
        raise Refused("an address of more than 20 bytes")
    return {"uint256": number, "address": data[at + 12 : at + 32]}.get(kind, data[at : at + 32])


def _number(data: bytes, at: int) -> int:
    if at + 32 > len(data):
        raise Refused("a call's data end before its arguments do")
    return int.from_bytes(data[at : at + 32], "big")


@functools.cache
def domain_of(chain: int, rounds: bytes) -> bytes:
    """Return what binds a ballot to the contract that counts it, on its chain."""
    kind = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    return keccak(keccak(kind) + keccak(b"commonprior") + keccak(b"1") + _word(chain) + _word(rounds))


def ballot(domain: bytes, run: bytes, round_: int, attempt: int, base: bytes, prior: bytes, entry: bytes,
           subject: bytes = bytes(32), scores: bytes = b"") -> bytes:  # fmt: skip
    """Return what a voter signs."""
    kind = _hash_of(b"Ballot(bytes32 run,uint256 round,uint256 attempt,bytes32 base,bytes32 prior,bytes32 entry,"
                    b"bytes32 subject,bytes scores)")  # fmt: skip
    fields = run + _word(round_) + _word(attempt) + base + prior + entry + subject + _hash_of(scores)
    return keccak(b"\x19\x01" + domain + keccak(kind + fields))


_hash_of = functools.lru_cache(1024)(keccak)


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def two_thirds(votes: int, members: int) -> None:
    """Refuse a decision that fewer than two thirds of the members' votes carry."""
    if members == 0 or 3 * votes < 2 * members:
        raise Refused(f"{votes} of {members} members voted for it, expected two thirds")


# The journal: an opening that every site signed, and a chain of rounds

_ROSTER = [{"name": str, "key": bytes}]
_SIGNATURES = [(int, bytes)]
_ENTRIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "open": (
        {"run": bytes, "coordinator": bytes, "roster": _ROSTER, "dropouts": int, "colluders": int, "recipe": dict,
         "recipe_hash": bytes, "spec": dict, "prior": bytes, "note": str},
        {"ledger": dict},
    ),
    "round": (
        {"round": int, "attempt": int, "previous": bytes, "base": bytes, "length": int, "survivors": [int],
         "encoding": {"parties": int, "fraction": int, "limit": int, "width": int}, "commitments": [bytes],
         "consistency": _SIGNATURES, "sum": bytes, "prior": bytes, "unit": str, "epsilon": float, "delta": float},
        {"draw": _SIGNATURES, "block": bytes},
    ),
}  # fmt: skip
"""Each kind of entry: the fields that it has, and those that it may have, then not empty."""

_LEDGER = {"kind": str, "mode": str, "chain": int, "addresses": [bytes], "accounts": [bytes]}


def _fits(value: Any, form: Any) -> bool:
    match form:
        case type():
            return type(value) is form or (form is float and type(value) is int)
        case [inner]:
            return type(value) is list and all(_fits(v, inner) for v in value)
        case (one, two):
            return type(value) is list and len(value) == 2 and _fits(value[0], one) and _fits(value[1], two)
        case _:
            return type(value) is dict and value.keys() == form.keys() and all(_fits(value[k], form[k]) for k in form)


def read_entry(data: bytes) -> dict[str, Any]:
    """Return the fields of an entry."""
    fields = decode(data)
    if type(fields) is not dict or fields.get("kind") not in tuple(_ENTRIES) or fields.get("version") != 1:
        raise Refused("expected an entry of kind open or round, version 1")
    needed, optional = _ENTRIES[fields["kind"]]
    form = {"kind": str, "version": int, **needed, **{k: v for k, v in optional.items() if fields.get(k)}}
    if not _fits(fields, form):
        raise Refused(f"an entry of kind {fields['kind']} has other fields than {', '.join(form)}, or of other kinds")
    return fields


def take_all(path: Path, what: str, first: int, take: Callable[[bytes], None]) -> int:
    """Hand on a file's records, each after 4 bytes that say how long it is, big-endian; return how many there are."""
    data, at, number = path.read_bytes(), 0, first
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if at + 4 > len(data) or end > len(data):
            raise Refused(f"{path}: {what} {number} is torn: {len(data) - at} bytes follow byte {at}")
        try:
            take(data[at + 4 : end])
        except Refused as error:
            raise Refused(f"{path}: {what} {number} does not hold: {error}") from None
        at, number = end, number + 1
    return number - first


class Line(NamedTuple):
    """A record of the journal: the entry's fields, and the arguments with which it is entered in the chain."""

    entry: dict[str, Any]
    call: list[Any]


class Journal:
    """What the records read so far have established."""

    def __init__(self, folder: Path, voters: Voters) -> None:
        self.folder, self.voters = folder, voters
        self.lines: list[Line] = []
        self.opening: dict[str, Any] = {}
        self.run = self.family = self.head = self.prior = bytes(32)
        self.terms, self.public = [0] * 7, False
        self.domain, self.grouped, self.sums, self.priors = b"", 0, 0, 0

    @property
    def members(self) -> list[bytes]:
        """The accounts that have a vote."""
        return self.opening["ledger"]["accounts"][:96]

    def take(self, record: bytes) -> None:
        """Check the next record."""
        fields = decode(record)
        ballots = fields.get("ballots") if type(fields) is dict else None
        form = {"entry": bytes, "signatures": _SIGNATURES} | ({"ballots": _SIGNATURES} if ballots else {})
        if not _fits(fields, form):
            raise Refused("expected a record: an entry, its signatures and, where there is a ledger, its ballots")
        data = fields["entry"]
        entry = read_entry(data)
        if (entry["kind"] == "open") != (not self.lines):
            raise Refused("the run is opened twice, or a round stands before the opening")
        if not self.lines:
            self._open(data, entry)
        else:
            self._round(entry)
        seats = [seat for seat, _ in fields["signatures"]]
        signed = self._signed(fields["signatures"], digest(["commonprior/entry/1", data]))
        least = len(self.opening["roster"]) - (self.opening["dropouts"] if self.lines else 0)
        if signed < least or seats != sorted(seats):
            raise Refused(f"signed by {signed} sites, expected {least}, in the order of their seats")
        votes = self._ballots(data, entry, ballots or [])
        ledger = self.opening.get("ledger", {})
        if not self.lines:
            proposer = ledger.get("proposer", bytes(20))
            call = [self.family, entry["recipe_hash"], entry["prior"], data, self.terms, proposer, votes]
        elif self.public:
            call = [self.run, sorted(ledger["accounts"][s] for s in entry["survivors"]), entry["prior"], data, votes]
        else:
            call = [self.run, entry["attempt"], entry["prior"], data, votes]
        self.lines.append(Line(entry, call))
        self.head, self.prior = digest(data), entry["prior"]
        self._files(entry)

    def _open(self, data: bytes, entry: dict[str, Any]) -> None:
        roster, recipe = entry["roster"], self.folder / "recipe.toml"
        sites, spare = len(roster), entry["dropouts"]
        if len({m["key"] for m in roster}) < sites or len({m["name"] for m in roster}) < sites:
            raise Refused("the roster names a site or a key twice")
        if sites < 2 or spare < 0 or entry["colluders"] < 0 or 2 * (sites - spare) <= sites + entry["colluders"]:
            raise Refused(f"{sites} sites, {spare} dropouts and {entry['colluders']} colluders do not go together")
        if digest(["commonprior/recipe/1", entry["recipe"]]) != entry["recipe_hash"]:
            raise Refused("the recipe does not have the hash that the entry names")
        try:
            same = not recipe.exists() or tomllib.loads(recipe.read_text()) == _without_none(entry["recipe"])
        except (ValueError, RecursionError):
            same = False
        if not same:
            raise Refused("recipe.toml is not the recipe that the sites signed")
        if "ledger" in entry:
            ledger = entry["ledger"]
            self.public = ledger.get("mode") == "public"
            form = _LEDGER | ({"terms": [int], "proposer": bytes} if self.public else {})
            if not _fits(ledger, form) or not (self.public or ledger["mode"] == "hidden"):
                raise Refused("expected a ledger of hidden or public deltas")
            accounts, addresses, proposer = ledger["accounts"], ledger["addresses"], ledger.get("proposer", bytes(20))
            if len(accounts) != sites or len({*accounts}) != sites or len(addresses) != 6:
                raise Refused(f"expected 6 contracts and {sites} accounts, each once")
            self.terms = [1, *ledger["terms"]] if self.public else [0] * 7
            if any(len(a) != 20 for a in (*accounts, *addresses, proposer)) or ledger["chain"] < 0:
                raise Refused("expected addresses and accounts of 20 bytes")
            if len(self.terms) != 7 or min(self.terms) < 0:
                raise Refused("expected 6 terms of public deltas, from 0")
            self.domain = domain_of(ledger["chain"], addresses[3])
        self.opening, self.run = entry, digest(data)
        self.family = digest(["commonprior/family/1", entry["recipe"].get("learner"), entry["spec"]])

    def _round(self, entry: dict[str, Any]) -> None:
        opening, number, encoding = self.opening, len(self.lines), entry["encoding"]
        sites, least = len(opening["roster"]), len(opening["roster"]) - opening["dropouts"]
        if entry["round"] != number or entry["attempt"] < 0:
            raise Refused(f"round {entry['round']}, attempt {entry['attempt']} follows round {number - 1}")
        if entry["previous"] != self.head or entry["base"] != self.prior:
            raise Refused("it does not follow the entry before it, or starts from another prior")
        bound = 2 ** (8 * encoding["width"] - 1) if encoding["width"] in (1, 2, 4, 8) else 0
        if encoding["parties"] != sites or sites * encoding["limit"] >= bound:
            raise Refused(f"its encoding does not hold the sum of {sites} sites")
        chosen = entry["survivors"]
        sealed = len(entry["commitments"])
        if self.public:  # the commitments are on the chain
            least, sealed = max(1, self.terms[2]), len(chosen)
            if entry["commitments"] or entry["consistency"] or "draw" in entry:
                raise Refused("sealed bytes, in a round of public deltas")
        if len(chosen) < least or len(chosen) != sealed or chosen != sorted({*chosen}):
            raise Refused(f"{len(chosen)} contributors, expected at least {least}, rising, each once")
        if chosen[0] < 0 or chosen[-1] >= sites:
            raise Refused("a contributor that the roster does not have")
        if self.public:
            return
        if "draw" in entry:
            if not isinstance(rule := opening["recipe"].get("sum"), dict) or rule.get("kind") != "grouped":
                raise Refused("a draw of groups, where everyone is in one sum")
            self.grouped += 1
            return
        session = {name: opening[name] for name in ("run", "coordinator", "roster", "dropouts", "colluders")}
        session |= {name: entry[name] for name in ("round", "attempt", "base", "length", "encoding")}
        session |= {"recipe": opening["recipe_hash"], "head": entry["previous"]}
        bound = digest(["commonprior/session/1", session])
        statement = digest(["commonprior/consistency/1", bound, chosen, entry["commitments"]])
        agreed = self._signed(entry["consistency"], statement)
        if agreed < least:
            raise Refused(f"whose updates are summed: signed by {agreed} sites, expected {least}")

    def _signed(self, signatures: list[list[Any]], statement: bytes) -> int:
        """Return how many sites signed a statement; refuse a signature that does not hold, and a site's second one."""
        roster, seats = self.opening["roster"], [seat for seat, _ in signatures]
        if len({*seats}) < len(seats) or any(not 0 <= seat < len(roster) for seat in seats):
            raise Refused("signatures of seats that the roster does not have, or has once")
        for seat, signature in signatures:
            if not verify_ed25519(roster[seat]["key"], signature, statement, len(roster) <= 512):
                raise Refused(f"the signature of {roster[seat]['name']} does not hold")
        return len(seats)

    def _ballots(self, data: bytes, entry: dict[str, Any], ballots: list[list[Any]]) -> list[bytes]:
        """Return the members' ballots, by account; refuse one that is not its account's."""
        if "ledger" not in self.opening:
            if ballots or "block" in entry:
                raise Refused("ballots, or a block, where the opening names no ledger")
            return []
        accounts, number, attempt = self.opening["ledger"]["accounts"], len(self.lines), entry.get("attempt", 0)
        terms = b"".join(map(_word, self.terms)) + _word(self.opening["ledger"].get("proposer", b""))
        base, agreed = entry.get("base", bytes(32)), self.family + self.opening["recipe_hash"] + terms
        subject = bytes(32) if number else keccak(agreed)
        hashed = ballot(self.domain, self.run, number, attempt, base, entry["prior"], digest(data), subject)
        seats = [seat for seat, _ in ballots]
        if seats != sorted({*seats}) or any(not 0 <= seat < len(accounts) for seat in seats):
            raise Refused("ballots of seats that the roster does not have, or has once")
        for seat, signature in ballots if number == 0 or not self.public else ():  # else the chain's are compared
            if self.voters.signer(hashed, signature, accounts[seat]) != accounts[seat]:
                raise Refused(f"the ballot of seat {seat} is not its account's")
            self.voters.cast(accounts[seat], self.run, number, attempt, hashed)
        votes = [(accounts[seat], signature) for seat, signature in ballots if seat < len(self.members)]
        two_thirds(len(votes), len(self.members))
        return [signature for _, signature in sorted(votes)[:64]]

    def _files(self, entry: dict[str, Any]) -> None:
        """Check what the folder still has of a round: its sum, its prior."""
        number = entry.get("round", 0)
        total, prior = self.folder / f"sums/{number:06d}.bin", self.folder / f"checkpoints/{number:06d}.safetensors"
        if number and total.exists() and digest(total.read_bytes()) != entry["sum"]:
            raise Refused(f"sums/{total.name} is not the sum that the entry names")
        if prior.exists() and prior_hash(prior) != entry["prior"]:
            raise Refused(f"checkpoints/{prior.name} is not the prior that the entry names")
        self.sums, self.priors = self.sums + (number > 0 and total.exists()), self.priors + prior.exists()


def prior_hash(path: Path) -> bytes:
    """Return the hash of the prior in a safetensors file: of its float32 tensors' names, shapes and bytes."""
    data = path.read_bytes()
    start, groups = 8 + int.from_bytes(data[:8], "little"), {"params": {}, "state": {}}
    try:
        for name, item in json.loads(data[8:start]).items():
            if name != "__metadata__":
                part, _, rest = name.partition("/")
                first, last = item["data_offsets"]
                groups[part][rest] = [item["shape"], data[start + first : start + last]]
                if item["dtype"] != "F32" or 4 * math.prod(item["shape"]) != len(groups[part][rest][1]):
                    raise ValueError
        return digest(groups)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        raise Refused(f"{path.name} is not a prior's safetensors file") from None


def _without_none(value: Any) -> Any:
    """Return nested tables without their empty fields: TOML has none."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


# The chain: blocks of one transaction each

CHAIN = 0x63707269
"""The chain id of every embedded chain."""

_CODE = {
    "Token": (1741, "260c04dcb9d32529b4b9538a5d0ed099119e08210343596fa67ddf248f7b9f1c", "address[],uint256"),
    "Quorum": (8646, "259a564920f631bdc66b02d0115b3aaa74f5c825d5a217cee1d63ca81397d002",
               "uint256,address[],address,address,address,uint256,uint256"),
    "Registry": (1764, "cb3eb801fae28b6580018519e7d0a84590a08e3e9777fa462f94e5ae942e5953", "address"),
    "Rounds": (22719, "db1b51d0a2d0bc0818d1b5eae10a9b486f58587ffb7c52ec3067854662a3c494", "address,address,address"),
    "Disputes": (16903, "cd85a9096fcb7d65b6f0876ebdbe48d4aba67252fa8ef5b189dba4ee84e24e53",
                 "address,address,address,address,uint256,uint256,uint256"),
    "Rewards": (4749, "c5178c976990e9ea0c3c31e45d48211ae6986841baf0274141883fc849669446", "address,address,address"),
}  # fmt: skip
"""The contracts in the order in which they are made: their code's size and SHA-256, and what they are made with."""

_TERMS, _SO_FAR = "(uint256,uint256,uint256,uint256,uint256,uint256,uint256)", "(bytes32,uint256,uint256,uint256[])"
_CALLS = {
    "begin": f"bytes32,bytes32,bytes32,bytes,{_TERMS},address,bytes[]",
    "record": "bytes32,uint256,bytes32,bytes,bytes[]",
    "open": "bytes32",
    "commit": "bytes32,bytes32",
    "page": f"bytes32,{_SO_FAR},address[],bytes32[],bytes[],uint256",
    "finalise": f"bytes32,bytes32,bytes,{_SO_FAR},address[],bytes32[],bytes32[],bytes[],uint256,bytes32,bytes[],"
    "bytes[]",
    "settle": "bytes32",
    "change": "address,bool,bytes[]",
    "leave": "",
}
"""What is followed: calls of Rounds, Disputes' settle, and Quorum's that change the list of members."""


class Standing:
    """A run as the transactions on the chain so far leave it."""

    def __init__(self, terms: list[int], prior: bytes) -> None:
        self.mode, self.words, self.least = terms[:3]
        self.prior, self.rounds, self.round, self.attempt, self.under_way = prior, 0, 0, 0, False
        self.proposed: bytes | None = None
        self.commits: dict[bytes, bytes] = {}
        self.pages: dict[bytes, list[tuple[bytes, bytes]]] = {}

    def enter(self, prior: bytes) -> None:
        """Take the next prior."""
        self.prior, self.rounds, self.under_way, self.proposed = prior, self.rounds + 1, False, None


class Chain:
    """What the blocks read so far have established."""

    def __init__(self, voters: Voters) -> None:
        self._voters = voters
        self.hashes, self._time = [bytes(32)], 0
        self._nonces: dict[bytes, int] = {}
        self._sender = b""
        self.addresses: list[bytes] = []
        self.members: list[bytes] = []
        self.others = self.proposals = 0
        self.calls: dict[bytes, list[tuple[int, list[Any]]]] = {}
        self.runs: dict[bytes, Standing] = {}
        self.means: list[bytes] = []

    def take(self, record: bytes) -> None:
        """Check the next block."""
        fields = decode(record)
        if not _fits(fields, {"transaction": bytes, "time": int, "hash": bytes}):
            raise Refused("expected a block: a transaction, a time and a hash")
        sent = read_transaction(fields["transaction"])
        sender = self._voters.signer(sent.hashed, sent.signature, self._sender)
        if sender is None:
            raise Refused("the transaction's signature is nobody's")
        if sent.nonce != self._nonces.get(sender, 0) or sent.chain != CHAIN or sent.gas > 16_777_216:
            raise Refused(f"nonce {sent.nonce}, chain {sent.chain} or gas {sent.gas} is not what it must be")
        if fields["time"] <= self._time:
            raise Refused("it is not later than the block before it")
        self._sender, self._nonces[sender], self._time = sender, sent.nonce + 1, fields["time"]
        if sent.to:
            self._call(sender, sent.to, sent.data)
        else:
            self._make(sender, sent.nonce, sent.data)
        self.hashes.append(fields["hash"])

    @property
    def _domain(self) -> bytes:
        return domain_of(CHAIN, self.addresses[3])

    def _make(self, sender: bytes, nonce: int, data: bytes) -> None:
        done = len(self.addresses)
        if done == 6 or nonce < done:
            raise Refused("a seventh contract is made, or one by another account: expected six by one")
        name, (size, code, kinds) = [*_CODE.items()][done]
        if hashlib.sha256(data[:size]).hexdigest() != code:
            raise Refused(f"the contract made is not the {name} of this version")
        made = [address_made(sender, nonce - done + i) for i in range(6)]
        token, quorum, registry, rounds, disputes, rewards = made
        links = {
            "Token": (), "Quorum": (token, rounds, disputes), "Registry": (rounds,),
            "Rounds": (quorum, registry, disputes), "Disputes": (rounds, quorum, token, rewards),
            "Rewards": (rounds, disputes, token),
        }[name]  # fmt: skip
        values = arguments(kinds, data[size:])
        if made[:done] != self.addresses or tuple(v for v in values if isinstance(v, bytes)) != links:
            raise Refused(f"the {name} that is made knows other contracts than these six")
        if name == "Quorum":
            if values[0] != 0:
                raise Refused("votes are staked, which this file does not weigh")
            self.members = values[1]
        self.addresses.append(made[done])

    def _call(self, sender: bytes, to: bytes, data: bytes) -> None:
        if len(self.addresses) < 6 or to not in self.addresses:
            raise Refused(f"a call of 0x{to.hex()}, which is none of the six contracts")
        contract = [*_CODE][self.addresses.index(to)]
        name = {_hash_of(f"{n}({k})".encode())[:4]: n for n, k in _CALLS.items()}.get(data[:4], "")
        values = arguments(_CALLS[name], data[4:]) if name else []
        if contract == "Quorum" and name in ("change", "leave"):
            raise Refused("the list of members changes, which this file does not follow")
        if contract == "Disputes" and name == "settle":
            run = self._run(values[0])
            if run.proposed is None:
                raise Refused("a proposal is settled that nobody made")
            run.enter(run.proposed)
        elif contract == "Rounds" and name in (steps := {
            "begin": self._begin, "record": self._record, "open": self._open, "commit": self._commit,
            "page": self._page, "finalise": self._finalise,
        }):  # fmt: skip
            try:
                steps[name](sender, values)
            except ValueError:
                raise Refused(f"the lists of a call of {name} are of different lengths") from None
        else:
            self.others += 1

    def _run(self, run: bytes) -> Standing:
        if run not in self.runs:
            raise Refused(f"a call about run {run.hex()[:16]}, which was not begun")
        return self.runs[run]

    def _agreed(self, signatures: list[bytes], hashes: Sequence[bytes], run: bytes, round_: int, attempt: int) -> None:
        """Refuse unless two thirds of the members signed, in rising order, each its own hash."""
        signers: list[bytes] = []
        for signature, hashed in zip(signatures, hashes, strict=True):
            who = self._voters.signer(hashed, signature)
            if who is None or who not in self.members or (signers and who <= signers[-1]):
                raise Refused("a ballot of nobody who has a vote, or out of order")
            self._voters.cast(who, run, round_, attempt, hashed)
            signers.append(who)
        two_thirds(len(signers), len(self.members))

    def _begin(self, sender: bytes, values: list[Any]) -> None:
        family, recipe, prior, entry, terms, proposer, signatures = values
        run = digest(entry)
        subject = keccak(family + recipe + b"".join(map(_word, terms)) + _word(proposer))
        hashed = ballot(self._domain, run, 0, 0, bytes(32), prior, run, subject)
        if run in self.runs or (terms[0] > 0 and 0 in terms[1:3]):
            raise Refused("a run is begun twice, or a run of public deltas without a size")
        self.calls[run] = [(len(self.hashes), values)]
        self.runs[run] = Standing(terms, prior)
        self._agreed(signatures, [hashed] * len(signatures), run, 0, 0)

    def _record(self, sender: bytes, values: list[Any]) -> None:
        run, attempt, prior, entry, signatures = values
        now = self._run(run)
        if now.mode != 0:
            raise Refused("a round of hidden deltas in a run of public ones")
        hashed = ballot(self._domain, run, now.rounds + 1, attempt, now.prior, prior, digest(entry))
        self._agreed(signatures, [hashed] * len(signatures), run, now.rounds + 1, attempt)
        now.enter(prior)
        self.calls[run].append((len(self.hashes), values))

    def _open(self, sender: bytes, values: list[Any]) -> None:
        now = self._run(values[0])
        if now.mode == 0:
            raise Refused("a round of public deltas in a run of hidden ones")
        now.attempt = now.attempt + 1 if now.round == now.rounds + 1 else 0
        now.round, now.under_way, now.commits, now.pages = now.rounds + 1, True, {}, {}

    def _commit(self, sender: bytes, values: list[Any]) -> None:
        now = self._run(values[0])
        if not now.under_way or sender in now.commits or sender not in self.members:
            raise Refused("a commitment outside a round, a second one, or one of nobody who is a member")
        now.commits[sender] = values[1]

    def _shown(self, now: Standing, run: bytes, who: bytes, root: bytes, salt: bytes) -> None:
        """Refuse an update that is not what its contributor committed to."""
        key = keccak(run + _word(now.round) + _word(now.attempt))
        if now.commits.get(who) != keccak(_word(who) + key + now.prior + root + salt):
            raise Refused(f"the update of 0x{who.hex()} is not what it committed to")

    def _added(self, now: Standing, sender: bytes, run: bytes, so_far: list[Any], page: list[tuple[Any, ...]]) -> Any:
        """Return who has shown what so far, with this page of (who, salt, delta)."""
        added = now.pages.get(sender, []) if so_far[1] else []
        if so_far[1] != len(added) or (added and so_far[0] != names_of([who for who, _ in added])):
            raise Refused("the updates do not go on from those of the page before")
        for who, salt, delta in page:
            if len(delta) != 32 * now.words:
                raise Refused(f"an update of {len(delta)} numbers, expected {32 * now.words}")
            self._shown(now, run, who, merkle_root(delta), salt)
        return [*added, *((who, delta) for who, _, delta in page)]

    def _page(self, sender: bytes, values: list[Any]) -> None:
        run, so_far, *parts, _ = values
        now = self._run(run)
        now.pages[sender] = self._added(now, sender, run, so_far, [*zip(*parts, strict=True)])

    def _finalise(self, sender: bytes, values: list[Any]) -> None:
        run, prior, entry, so_far, names, roots, salts, deltas, taken, _, signatures, scores = values
        now, count = self._run(run), len(names)
        if not now.under_way or count < now.least or names != sorted({*names}):
            raise Refused("a round is ended that is not open, or its contributors are too few or out of order")
        subject = keccak(names_of(names) + _word(taken))
        question = (now.round, now.attempt, now.prior, prior, digest(entry), subject)
        hashes = [ballot(self._domain, run, *question, row) for row in scores]
        self._agreed(signatures, hashes, run, now.round, now.attempt)
        if any(len(row) != count for row in scores):
            raise Refused(f"scores for another number of contributors than {count}")
        accepted = [3 * sum(row[i] > 0 for row in scores) >= 2 * len(self.members) for i in range(count)]
        if sum(yes << i for i, yes in enumerate(accepted)) != taken or sum(accepted) < now.least:
            raise Refused("the updates that are averaged are not those that two thirds of the votes accept")
        if now.mode == 1:
            page = [*zip(names[so_far[1] :], salts, deltas, strict=True)]
            shown = self._added(now, sender, run, so_far, page)
            if [who for who, _ in shown] != names:
                raise Refused("the updates shown are not the contributors'")
            self.means.append(mean_of([delta for (_, delta), yes in zip(shown, accepted, strict=True) if yes]))
            now.enter(prior)
            chosen = [who for who, yes in zip(names, accepted, strict=True) if yes]
            self.calls[run].append((len(self.hashes), [run, chosen, prior, entry, signatures]))
        else:
            for who, root, salt in zip(names, roots, salts, strict=True):
                self._shown(now, run, who, root, salt)
            now.proposed, now.under_way = prior, False
            self.proposals += 1


def names_of(contributors: Sequence[bytes]) -> bytes:
    """Return the hash of a list of accounts."""
    return functools.reduce(lambda names, who: keccak(names + _word(who)), contributors, bytes(32))


def merkle_root(delta: bytes) -> bytes:
    """Return the root of the tree of RFC 6962 whose leaves are 256 numbers each."""
    level = [hashlib.sha256(b"\0" + delta[at : at + 256]).digest() for at in range(0, len(delta), 256)]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\1" + b"".join(level[i : i + 2])).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]


def mean_of(deltas: Sequence[bytes]) -> bytes:
    """Return floor(sum / n + 1/2), number by number, of vectors of int8 numbers."""
    n, columns = len(deltas), zip(*(memoryview(delta).cast("b") for delta in deltas), strict=True)
    return b"".join(((2 * sum(column) + n) // (2 * n)).to_bytes(1, "big", signed=True) for column in columns)


# The run: the journal, what the folder has of it, and the chain that it was entered in


def verify(folder: Path, trust: Sequence[bytes] = (), head: bytes | None = None) -> Report:
    """Verify a run's folder; raise `Refused` with the first thing that does not hold."""
    voters = Voters()
    journal, chain = Journal(folder, voters), Chain(voters)
    path, final = folder / "journal.cbor", folder / "prior.safetensors"
    if not path.exists():
        raise Refused(f"{path}: no record here; name a run's folder")
    if take_all(path, "entry", 0, journal.take) == 0:
        raise Refused(f"{path}: entry 0 is missing: nothing opens the run")
    opening, rounds = journal.opening, len(journal.lines) - 1
    strangers = [key.hex() for key in trust if key not in [m["key"] for m in opening["roster"]]]
    if strangers:
        raise Refused(f"{path}: the trusted key {strangers[0]} is not in the roster: signed anew by others")
    if head not in (None, journal.head):
        raise Refused(f"{path}: the record ends at {journal.head.hex()} after round {rounds}, expected head "
                      f"{head.hex()}: it was cut short, or it is another history")  # fmt: skip
    if final.exists() and prior_hash(final) != journal.prior:
        raise Refused(f"{final}: is not the prior that entry {rounds} names: exchanged, or the record was cut short")
    blocks, late, ledger = folder / "chain.cbor", 0, opening.get("ledger")
    if ledger and ledger["kind"] == "embedded":
        if not blocks.exists():
            raise Refused(f"{blocks}: is missing: the opening names an embedded chain")
        take_all(blocks, "block", 1, chain.take)
        late = compare(journal, chain, blocks, final.exists())
    return Report(rounds, journal.head, journal.prior, tuple(_checked(journal, chain, trust, head)),
                  tuple(_unchecked(journal, chain, trust, head, late)), tuple(chain.means))  # fmt: skip


def compare(journal: Journal, chain: Chain, path: Path, finished: bool) -> int:
    """Refuse a chain that does not hold just the journal's entries; return how many it lacks: the last, where the run
    was interrupted before it was entered.
    """
    ledger, lines, calls = journal.opening["ledger"], journal.lines, chain.calls.get(journal.run, [])
    if chain.addresses != ledger["addresses"] or ledger["chain"] != CHAIN:
        raise Refused(f"{path}: the contracts are not those that the opening names")
    if sorted(chain.members) != sorted(journal.members):
        raise Refused(f"{path}: the accounts that vote are not those that the opening names")
    if len(calls) > len(lines):
        raise Refused(
            f"{path}: has {len(calls) - 1} rounds of this run, its journal {len(lines) - 1}: it was cut short"
        )
    late = len(lines) - len(calls)
    if late > (0 if finished else 1):
        raise Refused(f"{path}: entry {len(calls)} of the journal is not on the chain")
    for number, line in enumerate(lines):
        block, values = calls[number] if number < len(calls) else (len(chain.hashes), line.call)
        if values != line.call:
            raise Refused(f"{path}: block {block} does not hold what entry {number} of the journal says")
        since = calls[number - 1][0] if number and journal.public else block - 1
        if number and line.entry.get("block") not in chain.hashes[since:block]:
            raise Refused(f"{path}: the block that entry {number} names is not the one before it")
    return late


def _checked(journal: Journal, chain: Chain, trust: Sequence[bytes], head: bytes | None) -> list[str]:
    roster, rounds = journal.opening["roster"], len(journal.lines) - 1
    least = len(roster) - journal.opening["dropouts"]
    names = ", ".join(m["name"] for m in roster[:8]) + ", ..." * (len(roster) > 8)
    out = [
        f"{len(roster)} sites signed the opening: {names}",
        f"{rounds} rounds, each in its only bytes, after the entry and from the prior before it, signed by at least "
        f"{least} sites" + ", who had signed whose sealed bytes are summed before" * (not journal.public),
        f"the hashes of {journal.sums} sums and {journal.priors} priors that the folder still has",
    ]
    if "ledger" in journal.opening:
        out.append(f"the ballots of two thirds of {len(journal.members)} accounts for each entry, and no account's two")
    if len(chain.hashes) > 1:
        out.append(f"{len(chain.hashes) - 1} blocks: each transaction's bytes and signature, the six contracts' code "
                   f"and links, and each entry of the journal entered once, in order, with its ballots")  # fmt: skip
    if chain.means:
        out.append(f"{len(chain.means)} rounds of public deltas: commitments, Merkle roots, ballots, who was accepted; "
                   f"the means computed anew, the last one {digest(chain.means[-1]).hex()[:16]}")  # fmt: skip
    if trust or head:
        out.append(f"{len(trust)} trusted keys are in the roster" + ", and the head is the one expected" * bool(head))
    return out


def _unchecked(journal: Journal, chain: Chain, trust: Sequence[bytes], head: bytes | None, late: int) -> list[str]:
    out = ["that each new prior is what the recipe's learner makes of the old one and the sum, and the stated epsilon: "
           "that needs the learner (`commonprior audit`)"]  # fmt: skip
    if not trust:
        out.append("whose keys these are: whoever made all of them anew made a record that holds (--trust)")
    if head is None:
        out.append("that there is no later round: a record that was cut short holds too (--head)")
    if journal.grouped:
        out.append(f"whose sealed bytes are summed in {journal.grouped} rounds: their groups are not drawn again here")
    if len(chain.hashes) > 1:
        out.append("the EVM was not run: no block's hash, deadline, deposit or reward; the clock is the coordinator's")
    if chain.others or chain.proposals:
        out.append(f"{chain.others} calls about deposits, disputes and rewards, {chain.proposals} proposals' means")
    if journal.public:
        out.append("what was published in sums/, but for its hash, and which scores the sites' opinions make of it")
        if not chain.hashes[1:]:
            out.append("the ballots of rounds of public deltas: what was voted on is on the chain")
    if late:
        out.append("the chain does not have the last entry yet: the run was interrupted before it was entered there")
    if "ledger" in journal.opening and journal.opening["ledger"]["kind"] != "embedded":
        ledger = journal.opening["ledger"]
        out.append(f"the chain itself, and who has a vote there: ask a node of chain {ledger['chain']} for "
                   f"head(0x{journal.run.hex()}) of 0x{ledger['addresses'][2].hex()}")  # fmt: skip
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the folder that the command line names, and say in words what was checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--trust", type=bytes.fromhex, action="append", default=[], help="a site's key, known from it")
    parser.add_argument("--head", type=bytes.fromhex, help="the last entry's hash, known from elsewhere")
    asked = parser.parse_args(arguments)
    try:
        report = verify(asked.run, asked.trust, asked.head)
    except (Refused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    lines = [f"holds: {report.rounds} rounds, head {report.head.hex()}, prior {report.prior.hex()}",
             "checked:", *(f"  {line}" for line in report.checked),
             "NOT checked:", *(f"  {line}" for line in report.unchecked)]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
