"""Joint public randomness by commit-reveal: bytes in, bytes out, no policy.

Each site draws a contribution and commits to it; once every commitment is fixed, the contributions are revealed, and
what they hash to is the seed. The seed is uniform to everyone as long as one contribution in it was drawn honestly
and was still hidden when the last commitment was made (Blum 1983, "Coin flipping by telephone").

What this does not give: whoever reveals last knows the seed first and may stay silent. Whether silence ends the
attempt, or who is then left out, is for the caller; each choice that silence buys costs the caller a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.session import Seat

T = TypeVar("T")

CONTRIBUTION_BYTES = 32
_COMMITMENT = "commonprior/draw/commitment/1"
_SEED = "commonprior/draw/seed/1"
_COINS = b"commonprior/draw/coins/1"
_WORD = 2**64


def commit_contribution(context: bytes, seat: Seat, contribution: bytes) -> bytes:
    """Return the commitment (32 bytes) to a seat's contribution; its 256 random bits need no blinding.

    `context` says what is drawn for whom, at least the session's hash: a commitment means nothing in another.
    """
    return digest([_COMMITMENT, context, seat, contribution])


def require_contribution(context: bytes, seat: Seat, commitment: bytes, contribution: bytes) -> None:
    """Raise `ProtocolError` unless `contribution` is what the seat committed to."""
    if len(contribution) != CONTRIBUTION_BYTES:
        raise ProtocolError(
            f"seat {seat} reveals {len(contribution)} bytes as its contribution, expected {CONTRIBUTION_BYTES}"
        )
    if commit_contribution(context, seat, contribution) != commitment:
        raise ProtocolError(f"seat {seat} reveals another contribution than the one that it committed to")


def joint_seed(context: bytes, commitments: Mapping[Seat, bytes], contributions: Mapping[Seat, bytes]) -> bytes:
    """Return the seed (32 bytes) of all commitments and of the contributions that count, checked against them.

    Raises `ProtocolError` where a contribution is of a seat that committed to nothing, or to another one.
    """
    for seat, contribution in contributions.items():
        if seat not in commitments:
            raise ProtocolError(f"seat {seat} reveals a contribution and committed to none")
        require_contribution(context, seat, commitments[seat], contribution)
    made, shown = ([[seat, given[seat]] for seat in sorted(given)] for given in (commitments, contributions))
    return digest([_SEED, context, made, shown])


class Coins:
    """Exactly uniform draws from a seed: SHAKE-256 (FIPS 202) read as little-endian words of 64 bits."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._words: list[int] = []
        self._block = 0

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound), bound at most 2^64; a word that would favour some is thrown away."""
        fair = _WORD - _WORD % bound
        while (word := self._word()) >= fair:
            pass
        return word % bound

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` of the items, each set and order equally likely; all of them: a shuffle (Fisher-Yates)."""
        moved: dict[int, int] = {}
        out: list[T] = []
        for at in range(count):
            drawn = at + self.below(len(items) - at)
            out.append(items[moved.get(drawn, drawn)])
            moved[drawn] = moved.get(at, at)
        return out

    def _word(self) -> int:
        if not self._words:
            data = hashlib.shake_256(_COINS + self._seed + self._block.to_bytes(8, "little")).digest(1024)
            self._words = [int.from_bytes(data[i : i + 8], "little") for i in range(1016, -1, -8)]
            self._block += 1
        return self._words.pop()
