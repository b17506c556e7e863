"""What a member signs for the ledger: its consent to one change of one prior (EIP-712).

A ballot carries its run, round and attempt, so that an honest retry is no second vote, and the prior that the change
starts from. The contract that counts it and its chain are in the signature too: it counts nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from commonprior.errors import MalformedMessage

_DOMAIN = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_BALLOT = keccak(
    b"Ballot(bytes32 run,uint256 round,uint256 attempt,bytes32 base,bytes32 prior,bytes32 entry,bytes32 subject,"
    b"bytes scores)"
)
_NAME, _VERSION = keccak(b"commonprior"), keccak(b"1")
NOTHING = bytes(32)


@dataclass(frozen=True)
class Counter:
    """Where ballots are counted: a chain's number and a contract's address, 20 bytes."""

    chain: int
    address: bytes

    @property
    def domain(self) -> bytes:
        """The hash that binds a ballot to this counter."""
        where = self.chain.to_bytes(32, "big") + self.address.rjust(32, b"\0")
        return keccak(_DOMAIN + _NAME + _VERSION + where)


@dataclass(frozen=True)
class Place:
    """Where a run is recorded: the kind of chain and its id, whether deltas are `hidden` or `public`, the addresses of
    the contracts (20 bytes each, in the order in which they are deployed), each seat's account (20 bytes), and for
    public deltas their terms (words of 32 numbers, least contributors, seconds to commit, reveal and finalise, bond)
    with the account (20 bytes) that opens their rounds.
    """

    kind: str
    mode: str
    chain: int
    addresses: tuple[bytes, ...]
    accounts: tuple[bytes, ...]
    terms: tuple[int, ...] = ()
    proposer: bytes = b""

    ROUNDS = 3
    """Which of the addresses counts ballots."""

    @property
    def contract_terms(self) -> tuple[int, ...]:
        """The seven numbers that the contracts are told: the mode (0: hidden, 1: public) and the terms."""
        return (1, *self.terms) if self.mode == "public" else (0,) * 7

    @property
    def counter(self) -> Counter:
        """Where this run's ballots are counted."""
        return Counter(self.chain, self.addresses[self.ROUNDS])

    def encode(self) -> dict[str, Any]:
        """Return what the opening record says."""
        said = {"kind": self.kind, "mode": self.mode, "chain": self.chain, "addresses": list(self.addresses),
                "accounts": list(self.accounts)}  # fmt: skip
        return {**said, "terms": list(self.terms), "proposer": self.proposer} if self.terms else said

    @staticmethod
    def read(value: Mapping[str, Any], seats: int) -> Place | None:
        """Return what an opening record of so many seats says, None where it names no ledger."""
        if not value:
            return None
        match value:
            case {
                "kind": str() as kind, "mode": str() as mode, "chain": int() as chain,
                "addresses": list() as addresses, "accounts": list() as accounts, **rest,
            } if rest.keys() in (set(), {"terms", "proposer"}) and not isinstance(chain, bool):  # fmt: skip
                terms, proposer = rest.get("terms", []), rest.get("proposer", b"")
            case _:
                raise MalformedMessage("expected a ledger: kind, mode, chain, addresses, accounts")
        if not all(isinstance(a, bytes) and len(a) == 20 for a in (*addresses, *accounts)):
            raise MalformedMessage("expected addresses and accounts of 20 bytes")
        if len(addresses) != 6 or len(accounts) != seats or len(set(accounts)) != seats:
            raise MalformedMessage(f"expected 6 contracts and {seats} accounts, each once")
        if not (isinstance(terms, list) and all(type(t) is int and 0 <= t < 2**96 for t in terms)):
            raise MalformedMessage("expected the terms of public deltas as numbers from 0")
        if (mode, len(terms)) not in (("hidden", 0), ("public", 6)):
            raise MalformedMessage(
                f"expected hidden deltas, or public ones with 6 terms, not {mode!r} with {len(terms)}"
            )
        if not isinstance(proposer, bytes) or len(proposer) != (20 if terms else 0):
            raise MalformedMessage("expected the account that opens rounds of public deltas, 20 bytes")
        return Place(kind, mode, chain, tuple(addresses), tuple(accounts), tuple(terms), proposer)


@dataclass(frozen=True)
class Ballot:
    """One vote. `run`, `base`, `prior` and `entry` are SHA-256 hashes: of the opening record, of both priors, of the
    record of this round; `subject` says what else is agreed on, and `scores` has a byte for each contributor.
    """

    run: bytes
    round: int
    attempt: int
    base: bytes
    prior: bytes
    entry: bytes
    subject: bytes = NOTHING
    scores: bytes = b""

    @property
    def question(self) -> tuple[bytes, int, int, bytes, bytes, bytes, bytes]:
        """What all voters are asked, in the contract's order: everything but the scores."""
        return self.run, self.round, self.attempt, self.base, self.prior, self.entry, self.subject

    def digest(self, counter: Counter) -> bytes:
        """Return what is signed."""
        numbers = self.round.to_bytes(32, "big") + self.attempt.to_bytes(32, "big")
        fields = self.run + numbers + self.base + self.prior + self.entry + self.subject + keccak(self.scores)
        return keccak(b"\x19\x01" + counter.domain + keccak(_BALLOT + fields))
