"""Two parties learn in how many of their numbers the first one's is lower, by garbled circuits (Yao 1986).

    hello    first -> second   a nonce, A = a·G
    choices  second -> first   a nonce, oblivious transfers for the bits of the second's numbers
    tables   first -> second   garbled rows, labels of the first's bits, both labels of the second's (one opens each)
    outcome  second -> first   the outcome's labels, which only evaluation gives

Both learn the outcomes, as between two sites that agreed to compare validation losses. Numbers travel as
two's-complement fixed point of `bits` bits with `fraction` of them behind the point. The AES key of the hash comes
from both nonces; labels, offset and keys are fresh in each batch.

**Semi-honest only.** Each side is believed to follow the protocol: the first side could garble another circuit, and
either could enter a false number. So an outcome is information for people and dashboards; it never decides whether
an update is accepted. What the outcomes themselves give away, no protocol can hide: a site that may ask often enough
finds its peer's number by bisection. `queries` caps how many comparisons a site answers one peer, and the count is
to be on the disk (`Step.persist`) before the bytes that give something away leave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from commonprior.canonical import digest, encode
from commonprior.comparisons import Comparison, Machine, Pairing, Side, Step
from commonprior.comparisons._envelope import open_message, read_fields, seal
from commonprior.comparisons._half_gates import LABEL_BYTES, Garbled, Hash, choose, evaluate, garble, low_bits
from commonprior.comparisons._transfer import CHOICE_BYTES, POINT_BYTES, Chosen, Sender, choose_keys
from commonprior.errors import IdentityError, InputError, PolicyRefusal, ProtocolError, RecipeError
from commonprior.identity import Identity
from commonprior.sums import Csprng

NONCE_BYTES = 32
_ENVELOPE_BYTES = 1024
_AES_KEY_BYTES = 16
_HASH_KEY = "commonprior/garbled/hash/1"


@final
@dataclass(frozen=True)
class GarbledComparison(Comparison):
    """Half-gates with public-key oblivious transfer: numbers within ±2^(bits - fraction - 1), to 2^-fraction."""

    bits: int = 48
    fraction: int = 32
    queries: int = 64

    trust: ClassVar[str] = (
        "each of the two sites believes the other to follow the protocol and to enter its true numbers; neither learns "
        "the other's numbers beyond the outcomes"
    )

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 62 or not 0 <= self.fraction < self.bits:
            raise RecipeError(
                f"comparison of {self.bits} bits, {self.fraction} behind the point: expected 2 to 62 bits, and fewer "
                f"behind the point"
            )
        if self.queries < 1:
            raise RecipeError(f"comparison.queries = {self.queries}: expected at least 1")

    def machine(
        self, pairing: Pairing, side: Side, identity: Identity, values: np.ndarray, asked: int, csprng: Csprng
    ) -> Machine:
        """Return one side's machine; raise `PolicyRefusal` where its cap would be passed."""
        if identity.key != pairing.key_of(side):
            raise IdentityError(f"identity {identity.key.hex()[:16]}… is not the {side} side of this pairing")
        if asked < 0 or asked + pairing.count > self.queries:
            raise PolicyRefusal(
                f"{asked} comparisons with this peer are answered and {pairing.count} more are asked for: the cap is "
                f"{self.queries}, as every outcome gives something of a number away"
            )
        batch = _Batch(self, pairing, identity, self.encode(pairing, values), asked, csprng)
        return _First(batch) if side == "first" else _Second(batch)

    def encode(self, pairing: Pairing, values: np.ndarray) -> np.ndarray:
        """Return numbers [count] as bits [bits, count] bool, lowest first, in an order-preserving code."""
        if values.shape != (pairing.count,) or values.dtype != np.float64:
            raise InputError(f"expected {pairing.count} float64 numbers, got shape {values.shape} of {values.dtype}")
        bound = 2.0 ** (self.bits - self.fraction - 1)
        wrong = np.flatnonzero(~((values >= -bound) & (values < bound)))
        if len(wrong):
            raise InputError(
                f"number {int(wrong[0])} is {values[wrong[0]]}: expected a number from {-bound:g} to below {bound:g}; "
                f"take fewer bits behind the point"
            )
        code = np.floor(np.ldexp(values, self.fraction)).astype(np.int64) + (1 << (self.bits - 1))
        return ((code[None] >> np.arange(self.bits)[:, None]) & 1).astype(bool)


@dataclass(frozen=True)
class _Batch:
    """What both sides' machines are made of."""

    terms: GarbledComparison
    pairing: Pairing
    identity: Identity
    bits: np.ndarray = field(repr=False)
    asked: int
    csprng: Csprng

    @property
    def shape(self) -> tuple[int, int]:
        return self.terms.bits, self.pairing.count

    def seal(self, step: str, **body: bytes) -> bytes:
        return seal(self.identity, self.pairing, step, body)

    def open(self, frame: bytes, sender: Side, step: str, **sizes: int) -> list[bytes]:
        limit = sum(sizes.values()) + _ENVELOPE_BYTES
        return read_fields(open_message(frame, self.pairing, sender, step, limit), sizes)

    def hash(self, first_nonce: bytes, second_nonce: bytes) -> Hash:
        key = digest([_HASH_KEY, self.pairing.hash, first_nonce, second_nonce])[:_AES_KEY_BYTES]
        return Hash(key, self.pairing.number, self.pairing.count)

    def context(self) -> bytes:
        terms = self.terms
        return digest([self.pairing.hash, terms.bits, terms.fraction])

    def record(self) -> bytes:
        """What a site writes down before it gives something away: how much its peer has been answered."""
        peer = self.pairing.second if self.identity.key == self.pairing.first else self.pairing.first
        asked = self.asked + self.pairing.count
        return encode({"comparison": "garbled", "pairing": self.pairing.hash, "peer": peer, "asked": asked})


@final
class _First:
    """The garbler."""

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._nonce = batch.csprng(NONCE_BYTES)
        self._sender: Sender | None = Sender.draw(batch.context(), batch.csprng)
        hello = batch.seal("hello", nonce=self._nonce, key=self._sender.public)
        self._hello = Step(send=hello)
        self._garbled: Garbled | None = None
        self._answered: dict[bytes, Step] = {}

    def begin(self) -> Step:
        return self._hello

    def receive(self, frame: bytes) -> Step:
        if frame not in self._answered:
            garbled, sender = self._garbled, self._sender
            answer = self._garble(frame, sender) if sender else self._finish(frame, garbled)
            self._answered[frame] = answer
        return self._answered[frame]

    def _garble(self, frame: bytes, sender: Sender) -> Step:
        batch = self._batch
        bits, count = batch.shape
        nonce, choices = batch.open(frame, "second", "choices", nonce=NONCE_BYTES, points=bits * count * CHOICE_BYTES)
        keys = np.frombuffer(b"".join(a + b for a, b in sender.keys(choices)), "<u8").reshape(bits, count, 2, 2)
        garbled = garble(bits, count, batch.hash(self._nonce, nonce), batch.csprng)
        pairs = np.stack([garbled.y, garbled.y ^ garbled.offset], axis=2) ^ keys
        tables = batch.seal(
            "tables",
            rows=_bytes(garbled.rows),
            own=_bytes(choose(garbled.x, garbled.offset, batch.bits)),
            transfers=_bytes(pairs),
            permute=np.packbits(low_bits(garbled.outcome)).tobytes(),
        )
        self._garbled, self._sender = garbled, None
        return Step(batch.record(), tables)

    def _finish(self, frame: bytes, garbled: Garbled | None) -> Step:
        batch = self._batch
        if garbled is None:
            raise ProtocolError("this batch is over")
        (data,) = batch.open(frame, "second", "outcome", labels=batch.pairing.count * LABEL_BYTES)
        outcome = _labels(data, batch.pairing.count)
        zero, one = (outcome == garbled.outcome).all(-1), (outcome == garbled.outcome ^ garbled.offset).all(-1)
        if not (zero | one).all():
            raise ProtocolError(f"outcome {int(np.argmin(zero | one))} is a label that no evaluation gives")
        self._garbled = None
        return Step(done=one)


@final
class _Second:
    """The evaluator."""

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._nonce = batch.csprng(NONCE_BYTES)
        self._chosen: Chosen | None = None
        self._hash: Hash | None = None
        self._done = False
        self._answered: dict[bytes, Step] = {}

    def begin(self) -> Step:
        return Step()

    def receive(self, frame: bytes) -> Step:
        if frame not in self._answered:
            if self._done:
                raise ProtocolError("this batch is over")
            chosen, hash_ = self._chosen, self._hash
            answer = self._evaluate(frame, chosen, hash_) if chosen and hash_ else self._choose(frame)
            self._answered[frame] = answer
        return self._answered[frame]

    def _choose(self, frame: bytes) -> Step:
        batch = self._batch
        nonce, public = batch.open(frame, "first", "hello", nonce=NONCE_BYTES, key=POINT_BYTES)
        chosen = choose_keys(batch.context(), public, batch.bits.reshape(-1).tolist(), batch.csprng)
        self._chosen, self._hash = chosen, batch.hash(nonce, self._nonce)
        return Step(batch.record(), batch.seal("choices", nonce=self._nonce, points=chosen.choices))

    def _evaluate(self, frame: bytes, chosen: Chosen, hash_: Hash) -> Step:
        batch = self._batch
        bits, count = batch.shape
        labels = bits * count * LABEL_BYTES
        rows, own, transfers, permute = batch.open(
            frame, "first", "tables", rows=2 * labels, own=labels, transfers=2 * labels, permute=-(-count // 8)
        )
        pairs = _labels(transfers, bits, count, 2)
        index = batch.bits.astype(np.int64)[..., None, None]
        keys = _labels(b"".join(chosen.keys), bits, count)
        theirs = np.take_along_axis(pairs, index, axis=2)[:, :, 0] ^ keys
        outcome = evaluate(_labels(own, bits, count), theirs, _labels(rows, bits, 2, count), hash_)
        flipped = np.unpackbits(np.frombuffer(permute, np.uint8), count=count).astype(bool)
        self._chosen, self._hash, self._done = None, None, True
        return Step(send=batch.seal("outcome", labels=_bytes(outcome)), done=low_bits(outcome) ^ flipped)


def _bytes(labels: np.ndarray) -> bytes:
    return labels.astype("<u8").tobytes()


def _labels(data: bytes, *shape: int) -> np.ndarray:
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(*shape, 2)
