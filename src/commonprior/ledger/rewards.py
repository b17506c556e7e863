"""What rounds pay: recomputed from what the chain holds, claimed by those who earned it.

Public deltas: a contributor's share is the mean of the votes' scores, weighed by stake, each clipped to the median.
Hidden deltas: nobody can tell who was good, so all who signed share alike. The contract computes the same (`Rewards`),
and checks against the round's seal that it is told what was voted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from commonprior.ballot import Place
from commonprior.canonical import digest
from commonprior.entry import Opening, Round, read_entry, round_ballot
from commonprior.errors import JournalError, LedgerError
from commonprior.identity import Identity, signer_of
from commonprior.ledger import Receipt
from commonprior.ledger.client import Contracts
from commonprior.ledger.onchain import Entered, entered, said

CREDIT = 10**6
"""A credit in its smallest unit, in which the contracts count."""


@dataclass(frozen=True)
class Payout:
    """What one finished round's shares are made of. `voters` are accounts in rising order. Of public deltas also
    their weights and scores, the contributors' accounts in the contract's order, and who of them is averaged.
    """

    round: int
    attempt: int
    voters: tuple[bytes, ...]
    weights: tuple[int, ...] = ()
    scores: tuple[bytes, ...] = ()
    contributors: tuple[bytes, ...] = ()
    taken: int = 0

    def shares(self, per_round: int) -> dict[bytes, int]:
        """Return what each account earned, of so much a round, in millionths of a credit."""
        if not self.contributors:
            return dict.fromkeys(self.voters, per_round // len(self.voters))
        whole = 255 * len(self.contributors) * sum(self.weights)
        return {
            who: per_round * self._score(i) // whole for i, who in enumerate(self.contributors) if self.taken >> i & 1
        }

    def _score(self, at: int) -> int:
        """Return the sum of weight · min(score, median); at least half of the weight is at or below the median."""
        column = sorted((row[at], weight) for row, weight in zip(self.scores, self.weights, strict=True))
        below, median = 0, 255
        for score, weight in column:
            below += weight
            if 2 * below >= sum(self.weights):
                median = score
                break
        return sum(weight * min(score, median) for score, weight in column)

    def claim(self, contracts: Contracts, run: bytes, who: Identity) -> Receipt:
        """Fetch one's share of this round."""
        if not self.contributors:
            return contracts.write(who, "Rewards", "share", run, self.round, self.attempt, list(self.voters))
        return contracts.write(who, "Rewards", "claim", run, self.round, self.attempt, list(self.contributors),
                               self.taken, list(self.weights), list(self.scores))  # fmt: skip


@dataclass(frozen=True)
class Account:
    """A run's pot: what a round pays, what was put in, and what was claimed: (account, round) -> amount."""

    per_round: int
    funded: int
    claimed: dict[tuple[bytes, int], int]


def fund(contracts: Contracts, run: bytes, who: Identity, amount: int, per_round: int) -> None:
    """Put an amount into a run's pot, in millionths of a credit."""
    contracts.write(who, "Token", "approve", contracts.address("Rewards"), amount)
    contracts.write(who, "Rewards", "fund", run, amount, per_round)


def account_of(contracts: Contracts, run: bytes) -> Account:
    """Return a run's pot, from what the contract said of it."""
    per_round = funded = 0
    claimed: dict[tuple[bytes, int], int] = {}
    for event, _ in said(contracts, "Rewards", run):
        match event.name:
            case "Funded":
                per_round, funded = event.values["per_round"], funded + event.values["amount"]
            case "Claimed":
                claimed[_account(event.values["who"]), event.values["round"]] = event.values["amount"]
            case _:
                pass
    return Account(per_round, funded, claimed)


def check_claims(contracts: Contracts, opening: Opening) -> Account:
    """Return a run's pot; raise `JournalError` for a claim that its rounds did not earn, or a second one."""
    run, per_round = digest(opening.encode()), 0
    paid: dict[tuple[bytes, int], int] = {}
    rounds: dict[int, Payout] = {}
    for event, _ in said(contracts, "Rewards", run):
        if event.name == "Funded":
            per_round = event.values["per_round"]
        elif event.name == "Claimed":
            rounds = rounds or {payout.round: payout for payout in payouts(contracts, opening)}
            who, number, amount = _account(event.values["who"]), event.values["round"], event.values["amount"]
            earned = rounds[number].shares(per_round).get(who, 0) if number in rounds else 0
            if amount > earned or (who, number) in paid:
                raise JournalError(f"0x{who.hex()} was paid {amount} for round {number}, of which it earned {earned}")
            paid[who, number] = amount
    return account_of(contracts, run)


def payouts(contracts: Contracts, opening: Opening) -> list[Payout]:
    """Return what every finished round's shares are made of, as the chain counted it."""
    run, place = digest(opening.encode()), Place.read(opening.ledger, len(opening.roster))
    if place is None:
        raise LedgerError("the run was opened without a ledger: nothing is paid")
    snapshots: dict[tuple[int, int], int] = {}
    attempts: dict[int, int] = {}
    for event, block in said(contracts, "Rounds", run) if place.mode == "public" else ():
        if event.name == "Opened":
            snapshots[event.values["round"], event.values["attempt"]] = block - 1
        elif event.name == "Finalised":
            attempts[event.values["round"]] = event.values["attempt"]
    out = []
    for record in entered(contracts, run)[1:]:
        entry = read_entry(record.entry)
        if not isinstance(entry, Round):
            raise JournalError("a round's record opens a run")
        attempt = attempts.get(entry.round, entry.attempt)
        out.append(_payout(contracts, place, run, entry, record, attempt, snapshots.get((entry.round, attempt))))
    return out


def _payout(
    contracts: Contracts, place: Place, run: bytes, entry: Round, record: Entered, attempt: int, snapshot: int | None
) -> Payout:
    rows: Sequence[bytes] = record.scores or [b""] * len(record.ballots)
    voters = []
    for signature, row in zip(record.ballots, rows, strict=True):
        ballot = round_ballot(run, entry, attempt, record.subject, bytes(row))
        who = signer_of(ballot.digest(place.counter), signature)
        if who is None:
            raise JournalError(f"a ballot on round {entry.round} is nobody's")
        voters.append(who)
    if snapshot is None:
        return Payout(entry.round, attempt, tuple(voters))
    weights = tuple(contracts.read("Quorum", "weight_at", who, snapshot) for who in voters)
    return Payout(entry.round, attempt, tuple(voters), weights, tuple(bytes(row) for row in rows),
                  record.contributors, record.taken)  # fmt: skip


def _account(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
