"""A run's page in a ledger: what its journal holds, entered in the contracts, each record once and in order.

The journal comes first. A record that the sites signed is on the coordinator's disk before the chain is told, so that
whatever is interrupted is entered the next time; the contract takes each round once, so that nothing is entered twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from commonprior.appendlog import write_whole
from commonprior.ballot import Place
from commonprior.canonical import digest
from commonprior.entry import Opening, Round, family_of, read_ballots, read_entry, read_record
from commonprior.errors import LedgerError, RecipeError
from commonprior.identity import Identity
from commonprior.ledger import Chain
from commonprior.ledger.client import HIDDEN, MOST_BALLOTS, MOST_MEMBERS, Contracts, Signed, Terms
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.journal import Journal
from commonprior.ledger.rpc import Rpc
from commonprior.recipe import Ledger, Recipe
from commonprior.round import Poll
from commonprior.runfolder import RunFolder

NODE = "COMMONPRIOR_RPC"
"""The environment variable with the address of a node. It may hold a password: it is written nowhere."""


def open_chain(ledger: Ledger, run: RunFolder) -> Chain | None:
    """Return the chain that a recipe names, as it was when the process last ended; None where there is none."""
    match ledger.kind:
        case "none":
            return None
        case "embedded":
            if Journal(run.journal).opening is None:
                run.chain.unlink(missing_ok=True)  # of a run that never began: nothing was promised on it
            return Embedded(run.chain)
        case "rpc":
            return Rpc(node(), ledger.chain, ledger.confirmations)


def node() -> str:
    """Return the address of the node to ask; raise `LedgerError` where none is named."""
    url = os.environ.get(NODE, "")
    if not url:
        raise LedgerError(
            f"a ledger of kind rpc needs a node: set {NODE} to its address, such as http://127.0.0.1:8545"
        )
    return url


class Book:
    """The coordinator's side. `accounts` are the sites', seat by seat; the first 96 are the members who vote."""

    def __init__(self, chain: Chain, coordinator: Identity, accounts: Sequence[bytes], folder: Path) -> None:
        self._chain, self._coordinator, self._accounts = chain, coordinator, tuple(accounts)
        self._deployed = folder / "contracts.json"

    def found(self, recipe: Recipe) -> Place:
        """Return where a new run is recorded; make the contracts where there are none yet."""
        members, schedule = self._accounts[:MOST_MEMBERS], recipe.schedule
        present, needed = min(len(members) - schedule.dropouts, MOST_BALLOTS), -(-2 * len(members) // 3)
        if present < needed:
            raise RecipeError(
                f"schedule.dropouts = {schedule.dropouts}: with {len(members)} members {present} ballots are left, and "
                f'a round needs {needed}; allow fewer dropouts, or say kind = "none" under [ledger]'
            )
        contracts = self._contracts(recipe.ledger, members)
        return Place(recipe.ledger.kind, recipe.ledger.mode, self._chain.number, contracts.addresses, self._accounts)

    def _contracts(self, ledger: Ledger, members: Sequence[bytes]) -> Contracts:
        named = [bytes.fromhex(a[2:]) for a in ledger.contracts]
        if not named and self._deployed.exists() and ledger.kind == "rpc":
            named = [bytes.fromhex(a) for a in json.loads(self._deployed.read_text())]
        if named:
            contracts = Contracts(self._chain, tuple(named))
            contracts.check()
            return contracts
        contracts = Contracts.deploy(self._chain, self._coordinator, members)
        write_whole(self._deployed, json.dumps([a.hex() for a in contracts.addresses]).encode())
        return contracts

    def poll(self, opening: Opening) -> Poll | None:
        """Return where a run's next ballots are counted; None for a run that was opened without a ledger."""
        place = Place.read(opening.ledger, len(opening.roster))
        if place is None:
            return None
        block = self._chain.head().hash if place.kind == "embedded" else b""
        return Poll(place, digest(opening.encode()), block)

    def catch_up(self, journal: Journal) -> None:
        """Enter what the journal holds and the contracts do not; refuse a journal that is behind them."""
        opening = journal.opening
        poll = self.poll(opening) if opening is not None else None
        if opening is None or poll is None:
            return
        place, run, records = poll.place, poll.run, journal.records
        contracts = Contracts(self._chain, place.addresses)
        standing = contracts.standing(run)
        if standing is None:
            contracts.begin(
                self._coordinator, family_of(opening), opening.recipe_hash, opening.prior, opening.encode(),
                Terms(HIDDEN), bytes(20), votes_of(records[0], place),
            )  # fmt: skip
            standing = contracts.standing(run)
        done = standing.rounds if standing is not None else 0
        if done > len(records) - 1:
            raise LedgerError(
                f"the ledger has {done} rounds of this run, its journal {len(records) - 1}: the journal was cut short "
                f"or is an old copy; restore it, for a round that was counted cannot be learned again"
            )
        for record in records[done + 1 :]:
            data = read_record(record)[0]
            entry = read_entry(data)
            if isinstance(entry, Round):
                contracts.record(self._coordinator, run, entry.attempt, entry.prior, data, votes_of(record, place))


class ChainRegistry:
    """A site's view of the ledger, through its own node."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def check(self, place: Place) -> None:
        """Raise `LedgerError` unless the contracts are this version's and their members are the place's accounts."""
        if place.chain != self._chain.number:
            raise LedgerError(f"the run is recorded on chain {place.chain}, this site asks chain {self._chain.number}")
        contracts = Contracts(self._chain, place.addresses)
        contracts.check()
        members, block = place.accounts[:MOST_MEMBERS], self._chain.head().number
        total = contracts.read("Quorum", "weight_at", bytes(20), block)
        strangers = [m for m in members if contracts.read("Quorum", "weight_at", m, block) == 0]
        if strangers:
            raise LedgerError(f"0x{strangers[0].hex()} has no vote in the consortium at 0x{place.addresses[1].hex()}")
        if contracts.read("Quorum", "kind") == 0 and total != len(members):
            raise LedgerError(f"{total} members have a vote in the consortium, {len(members)} of them are in this run")

    def head(self, place: Place, run: bytes) -> tuple[int, bytes] | None:
        """Return how many rounds a run has and its newest prior's hash; None where it has not been begun."""
        standing = Contracts(self._chain, place.addresses).standing(run)
        return None if standing is None else (standing.rounds, standing.prior)

    def newest(self) -> bytes:
        """Return the hash of the newest block."""
        return self._chain.head().hash


def votes_of(record: bytes, place: Place) -> Signed:
    """Return the ballots of a record that are counted: members', as many as a round takes."""
    members = place.accounts[:MOST_MEMBERS]
    return [(members[seat], signature) for seat, signature in read_ballots(record) if seat < len(members)]
