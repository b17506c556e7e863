"""Rounds of public deltas: int8 updates that a contract checks, judges by the members' ballots, and averages itself.

    open ──> commit (each contributor) ──> ballots (each member, off the chain) ──> finalise
                                   large vectors: propose ──> (challenge, demand) ──> settle

What is published here is published for good: clip and noise come first. `mean_of` is the contract's arithmetic bit
for bit: floor(S / n + 1/2) of int8 numbers, for at most 256 contributors.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from eth_hash.auto import keccak

from commonprior.ballot import NOTHING, Ballot
from commonprior.canonical import digest
from commonprior.errors import InputError, LedgerError
from commonprior.identity import Identity
from commonprior.ledger import Receipt, merkle
from commonprior.ledger.client import (
    MOST_BALLOTS,
    Contracts,
    Current,
    Signed,
    commitment,
    joined,
    key_of,
    names_of,
    taken_of,
)

MOST_CONTRIBUTORS = 256
"""The sum of more int8 numbers would run over its lane of 16 bits."""

SMALL = 2048
"""The most numbers that a contract averages itself; above, a proposal can be disputed chunk by chunk."""

MOST_LARGE = 32
"""The most contributors of larger vectors."""

PAGE = 16
"""The most deltas in one transaction."""

Ballots = Mapping[bytes, tuple[bytes, bytes]]
"""Voter's account -> its scores (a byte a contributor) and its signature."""


@dataclass(frozen=True)
class Update:
    """One contributor's delta of int8 numbers with the salt that hides it until it is shown."""

    who: bytes
    delta: bytes
    salt: bytes

    @staticmethod
    def make(who: bytes, delta: np.ndarray) -> Update:
        """Return an update of int8 numbers [d] with a fresh salt."""
        return Update(who, packed(delta), secrets.token_bytes(32))

    @property
    def root(self) -> bytes:
        """The Merkle root of the delta's chunks."""
        return merkle.root(self.delta)

    def commitment(self, key: bytes, base: bytes) -> bytes:
        """Return what is committed to in an attempt."""
        return commitment(self.who, key, base, self.root, self.salt)


class Attempt(NamedTuple):
    """One attempt at a round: the run, where it stands, and the prior that it starts from."""

    run: bytes
    current: Current
    base: bytes

    @property
    def key(self) -> bytes:
        """The contract's name for it."""
        return key_of(self.run, self.current.round, self.current.attempt)


def packed(delta: np.ndarray) -> bytes:
    """Return int8 numbers [d] as the contract takes them: filled up with zeros to whole words of 32."""
    if delta.dtype != np.int8 or delta.ndim != 1 or len(delta) == 0:
        raise InputError(f"a public delta is a vector of int8, got {delta.dtype} of shape {delta.shape}")
    return delta.tobytes() + bytes(-len(delta) % 32)


def mean_of(deltas: Sequence[bytes]) -> bytes:
    """Return floor(sum / n + 1/2), number by number, of packed int8 deltas, as the contract computes it."""
    if not 0 < len(deltas) <= MOST_CONTRIBUTORS:
        raise InputError(f"{len(deltas)} deltas: the contract averages 1 to {MOST_CONTRIBUTORS}")
    total = np.zeros(len(deltas[0]), np.int64)
    for delta in deltas:
        total += np.frombuffer(delta, np.int8)
    return ((2 * total + len(deltas)) // (2 * len(deltas))).astype(np.int8).tobytes()


def accepted(scores: Mapping[bytes, bytes], weights: Mapping[bytes, int], total: int, contributors: int) -> int:
    """Return whom two thirds of all votes give a score above 0, as the contract counts: bit i is contributor i."""
    taken = 0
    for i in range(contributors):
        if 3 * sum(weights[who] for who, row in scores.items() if row[i]) >= 2 * total:
            taken |= 1 << i
    return taken


def chosen(updates: Sequence[Update], taken: int) -> list[Update]:
    """Return those of the updates, in the contributors' order, that were accepted."""
    return [u for i, u in enumerate(in_order(updates)) if taken >> i & 1]


def in_order(updates: Sequence[Update]) -> list[Update]:
    """Return updates in the contributors' order: by account."""
    return sorted(updates, key=lambda u: u.who)


class PublicRounds:
    """The contracts' side of one run of public deltas."""

    def __init__(self, contracts: Contracts, run: bytes) -> None:
        self._contracts, self._run = contracts, run

    def open(self, sender: Identity) -> Attempt:
        """Open the next round, or another attempt at one whose time is over."""
        self._contracts.write(sender, "Rounds", "open", self._run)
        return self.attempt()

    def attempt(self) -> Attempt:
        """Return the attempt under way."""
        standing = self._contracts.standing(self._run)
        if standing is None:
            raise LedgerError(f"run {self._run.hex()[:16]}… is not in the registry")
        return Attempt(self._run, self._contracts.current(self._run), standing.prior)

    def commit(self, sender: Identity, attempt: Attempt, update: Update) -> Receipt:
        """Bind the sender to its update."""
        return self._contracts.write(
            sender, "Rounds", "commit", self._run, update.commitment(attempt.key, attempt.base)
        )

    def is_committed(self, attempt: Attempt, update: Update) -> bool:
        """Say whether an update is what its contributor committed to."""
        found = self._contracts.read("Rounds", "commit_of", attempt.key, update.who)
        return hmac.compare_digest(found, update.commitment(attempt.key, attempt.base))

    def reveal(self, sender: Identity, update: Update) -> Receipt:
        """Show one's update (a large one: its root), so that nobody can leave it out."""
        small = len(update.delta) <= SMALL
        root, delta = (bytes(32), update.delta) if small else (update.root, b"")
        return self._contracts.write(sender, "Rounds", "reveal", self._run, root, update.salt, delta)

    def ballot(
        self, attempt: Attempt, updates: Sequence[Update], taken: int, prior: bytes, entry: bytes, scores: bytes
    ) -> Ballot:
        """Return one member's ballot on the updates of an attempt and on the prior that those accepted make."""
        subject = taken_of([u.who for u in in_order(updates)], taken)
        current = attempt.current
        return Ballot(self._run, current.round, current.attempt, attempt.base, prior, digest(entry), subject, scores)

    def finalise(self, sender: Identity, updates: Sequence[Update], taken: int, prior: bytes, entry: bytes,
                 ballots: Ballots) -> list[Receipt]:  # fmt: skip
        """Have the contract check, judge and average the updates, in as many transactions as they need."""
        ordered, receipts = in_order(updates), []
        names = [u.who for u in ordered]
        pages = [ordered[at : at + PAGE] for at in range(0, len(ordered), PAGE)]
        so_far, added = _partial([], taken, []), []
        for page in pages[:-1]:
            receipts.append(self._contracts.write(
                sender, "Rounds", "page", self._run, so_far, [u.who for u in page], [u.salt for u in page],
                [u.delta for u in page], taken & (1 << len(added) + len(page)) - 1,
            ))  # fmt: skip
            added += page
            so_far = _partial([u.who for u in added], taken, [u.delta for u in chosen(added, taken)])
        signatures, scores = _cast(ballots)
        receipts.append(self._contracts.write(
            sender, "Rounds", "finalise", self._run, prior, entry, so_far, names, [], [u.salt for u in pages[-1]],
            [u.delta for u in pages[-1]], taken, NOTHING, signatures, scores,
        ))  # fmt: skip
        return receipts

    def propose(self, sender: Identity, updates: Sequence[Update], taken: int, prior: bytes, entry: bytes,
                mean_root: bytes, ballots: Ballots) -> Receipt:  # fmt: skip
        """Propose the mean of large updates by its Merkle root."""
        ordered, (signatures, scores) = in_order(updates), _cast(ballots)
        return self._contracts.write(
            sender, "Rounds", "finalise", self._run, prior, entry, _partial([], 0, []), [u.who for u in ordered],
            [u.root for u in ordered], [u.salt for u in ordered], [], taken, mean_root, signatures, scores,
        )  # fmt: skip

    def announce(self, sender: Identity, chunk: int, salt: bytes) -> Receipt:
        """Announce a challenge, so that nobody can copy it."""
        said = _words(sender.address.rjust(32, b"\0"), self._run, chunk.to_bytes(32, "big"), salt)
        return self._contracts.write(sender, "Disputes", "announce", said)

    def challenge(self, sender: Identity, chunk: int, salt: bytes, taken: Sequence[Update], mean: bytes) -> Receipt:
        """Have one chunk of a proposed mean computed on the chain, from the accepted updates."""
        ordered = in_order(taken)
        trees = [merkle.levels_of(u.delta) for u in ordered]
        return self._contracts.write(
            sender, "Disputes", "challenge", self._run, chunk, salt, [u.who for u in ordered],
            [merkle.chunks_of(u.delta)[chunk] for u in ordered],
            [merkle.proof(tree, chunk) for tree in trees], merkle.chunks_of(mean)[chunk],
            merkle.proof(merkle.levels_of(mean), chunk),
        )  # fmt: skip

    def supply(self, sender: Identity, attempt: Attempt, update: Update, chunk: int) -> Receipt:
        """Answer a demand for a chunk of one's own update."""
        current, tree = attempt.current, merkle.levels_of(update.delta)
        return self._contracts.write(
            sender, "Disputes", "supply", self._run, current.round, current.attempt, attempt.base, tree[-1][0],
            update.salt, chunk, merkle.chunks_of(update.delta)[chunk], merkle.proof(tree, chunk),
        )  # fmt: skip


def _partial(names: Sequence[bytes], taken: int, deltas: Sequence[bytes]) -> tuple[bytes, int, int, list[int]]:
    """Return what has been added so far, as the contract keeps its hash."""
    return names_of(names), len(names), taken & (1 << len(names)) - 1, lanes_of(deltas)


def lanes_of(deltas: Sequence[bytes]) -> list[int]:
    """Return the sums of int8 numbers + 128 as the contract's words: 16 lanes of 16 bits, even bytes, then odd ones."""
    if not deltas:
        return []
    total = np.zeros(len(deltas[0]), np.uint16)
    for delta in deltas:
        total += np.frombuffer(delta, np.uint8) ^ 0x80
    out = []
    for word in total.reshape(-1, 32):
        # The first number is the highest byte of its word, so the even bytes from the right are numbers 31, 29, ...
        out += [int.from_bytes(word[1::2].astype(">u2").tobytes(), "big"),
                int.from_bytes(word[0::2].astype(">u2").tobytes(), "big")]  # fmt: skip
    return out


def _cast(ballots: Ballots) -> tuple[list[bytes], list[bytes]]:
    votes: Signed = [(who, signature) for who, (_, signature) in ballots.items()]
    return joined(votes), [ballots[who][0] for who in sorted(ballots)[:MOST_BALLOTS]]


def _words(*words: bytes) -> bytes:
    return keccak(b"".join(words))
