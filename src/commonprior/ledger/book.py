"""A run's page in a ledger: what its journal holds, entered in the contracts, each record once and in order.

The journal comes first. A record that the sites signed is on the coordinator's disk before the chain is told, so that
whatever is interrupted is entered the next time; the contract takes each round once, so that nothing is entered twice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

from commonprior.appendlog import write_whole
from commonprior.ballot import Place
from commonprior.canonical import digest
from commonprior.defence.layers import Layers
from commonprior.entry import Opening, Round, family_of, read_ballots, read_entry, read_record, round_ballot
from commonprior.errors import LedgerError, ProtocolError, RecipeError
from commonprior.identity import Identity
from commonprior.ledger import Chain
from commonprior.ledger.client import MOST_BALLOTS, MOST_MEMBERS, Contracts, Rules, Signed, Terms, valid
from commonprior.ledger.contract import artefact
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.journal import Journal
from commonprior.ledger.public import SMALL, PublicRounds, Update
from commonprior.ledger.published import Published, read_published, require_opinions
from commonprior.ledger.rpc import Rpc
from commonprior.recipe import Ledger, Recipe
from commonprior.round import Poll
from commonprior.runfolder import RunFolder
from commonprior.session import Seat
from commonprior.site import Told

NODE = "COMMONPRIOR_RPC"
"""The environment variable with the address of a node. It may hold a password: it is written nowhere."""


def open_chain(ledger: Ledger, run: RunFolder) -> Chain | None:
    """Return the chain that a recipe names, as it was when the process last ended; None where there is none."""
    match ledger.kind:
        case "none":
            return None
        case "embedded":
            chain = Embedded(run.chain)
            if Journal(run.journal).opening is not None or not chain.transactions:
                return chain
            begins = artefact("Rounds").functions["begin"].selector
            if any(t.to is not None and t.data[:4] == begins for t in chain.transactions):
                raise LedgerError(f"{run.journal}: is missing, though {run.chain} holds a run that began; restore "
                                  f"it, or start under another --name")  # fmt: skip
            run.chain.unlink()  # of a run that never began: nothing was promised on it
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

    def __init__(
        self, chain: Chain, coordinator: Identity, accounts: Sequence[bytes], run: RunFolder, layers: Layers
    ) -> None:
        self._chain, self._coordinator, self._accounts = chain, coordinator, tuple(accounts)
        self._run, self._layers = run, layers
        self._deployed = run.path / "coordinator" / "contracts.json"

    def found(self, recipe: Recipe, width: int, limit: int) -> Place:
        """Return where a new run is recorded; make the contracts where there are none yet.

        `width` is how many integers an update has, `limit` how large one may be.
        """
        members, schedule = self._accounts[:MOST_MEMBERS], recipe.schedule
        present, needed = min(len(members) - schedule.dropouts, MOST_BALLOTS), -(-2 * len(members) // 3)
        if present < needed:
            raise RecipeError(
                f"schedule.dropouts = {schedule.dropouts}: with {len(members)} members {present} ballots are left, and "
                f'a round needs {needed}; allow fewer dropouts, or say kind = "none" under [ledger]'
            )
        terms = _public_terms(recipe, len(members), width, limit) if recipe.public else ()
        seconds = terms[2] if terms else 0
        contracts = self._contracts(recipe.ledger, members, Rules(notice=max(Rules().notice, 12 * seconds)))
        return Place(
            recipe.ledger.kind, recipe.ledger.mode, self._chain.number, contracts.addresses, self._accounts, terms,
            self._coordinator.address if terms else b"",
        )  # fmt: skip

    def _contracts(self, ledger: Ledger, members: Sequence[bytes], rules: Rules) -> Contracts:
        named = [bytes.fromhex(a[2:]) for a in ledger.contracts]
        if not named and self._deployed.exists() and ledger.kind == "rpc":
            named = [bytes.fromhex(a) for a in json.loads(self._deployed.read_text())]
        if named:
            contracts = Contracts(self._chain, tuple(named))
            contracts.check()
            return contracts
        contracts = Contracts.deploy(self._chain, self._coordinator, members, rules)
        write_whole(self._deployed, json.dumps([a.hex() for a in contracts.addresses]).encode())
        return contracts

    def poll(self, opening: Opening) -> Poll | None:
        """Return where a run's next ballots are counted; None for a run that was opened without a ledger."""
        place = Place.read(opening.ledger, len(opening.roster))
        if place is None:
            return None
        block = self._chain.head().hash if place.kind == "embedded" else b""
        return Poll(place, digest(opening.encode()), block)

    def catch_up(self, journal: Journal) -> bool:
        """Enter what the journal holds and the contracts do not; refuse a journal that is behind them.

        False where the last record came too late: members had opened another attempt, as they may when a coordinator
        rests for long. It is set aside; the round is to be tried again.
        """
        opening = journal.opening
        poll = self.poll(opening) if opening is not None else None
        if opening is None or poll is None:
            return True
        place, run, records = poll.place, poll.run, journal.records
        contracts = Contracts(self._chain, place.addresses)
        standing = contracts.standing(run)
        if standing is None:
            contracts.begin(
                self._coordinator, family_of(opening), opening.recipe_hash, opening.prior, opening.encode(),
                Terms(*place.contract_terms), place.proposer.rjust(20, b"\0"), votes_of(records[0], place),
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
            if not isinstance(entry, Round):
                continue
            votes = self._with_votes(contracts, votes_of(record, place))
            if place.mode == "hidden":
                contracts.record(self._coordinator, run, entry.attempt, entry.prior, data, votes)
            else:
                published = read_published(self._run.sum_of(entry.round).read_bytes(), place, self._layers, None)
                ballots = {who: (published.row, signature) for who, signature in votes}
                current = contracts.current(run)
                vote = round_ballot(run, entry, current.attempt, published.subject, published.row)
                if current.round == entry.round and not valid(vote, place.counter, votes):
                    journal.set_aside()
                    return False
                stage = self.stage(opening)
                stage.close_commitments()
                stage.close_reveals(len(published.updates))
                PublicRounds(contracts, run).finalise(
                    self._coordinator, published.updates, published.taken, entry.prior, data, ballots
                )
        return True

    def _with_votes(self, contracts: Contracts, votes: Signed) -> Signed:
        """Return the ballots of those who still have a vote: a member may leave in the middle of a run."""
        block = self._chain.head().number
        total = contracts.read("Quorum", "weight_at", bytes(20), block)
        if contracts.read("Quorum", "kind") == 0 and total == min(len(self._accounts), MOST_MEMBERS):
            return votes
        return [(who, signature) for who, signature in votes
                if contracts.read("Quorum", "weight_at", who, block)]  # fmt: skip

    def stage(self, opening: Opening) -> ChainStage:
        """Return the contracts' side of a round of public deltas."""
        place = Place.read(opening.ledger, len(opening.roster))
        if place is None:
            raise LedgerError("the run was opened without a ledger: its deltas cannot be public")
        return ChainStage(self._chain, self._coordinator, place, digest(opening.encode()))


class ChainStage:
    """What a round of public deltas asks of the contracts."""

    def __init__(self, chain: Chain, coordinator: Identity, place: Place, run: bytes) -> None:
        self._chain, self._coordinator, self._place = chain, coordinator, place
        self._contracts = Contracts(chain, place.addresses)
        self._rounds, self._run = PublicRounds(self._contracts, run), run

    def open(self) -> int:
        """Open the next attempt, waiting for the end of one that is under way; return its number on the chain."""
        current = self._contracts.current(self._run)
        if current.phase != 0:
            self._chain.wait(current.opened + sum(self._place.terms[2:5]))
        return self._rounds.open(self._coordinator).current.attempt

    def committed(self, seat: Seat, delta: bytes, salt: bytes) -> bool:
        """Say whether this is the update that a seat committed to."""
        return self._rounds.is_committed(self._rounds.attempt(), Update(self._place.accounts[seat], delta, salt))

    def revealed(self) -> int:
        """Return how many sites have shown their updates to the contract themselves, as nobody published them."""
        return self._contracts.current(self._run).revealed

    def newest(self) -> bytes:
        """Return the hash of an embedded chain's newest block; nothing of another's."""
        return self._chain.head().hash if self._place.kind == "embedded" else b""

    def close_commitments(self) -> None:
        """Wait until nobody can commit any more."""
        self._chain.wait(self._contracts.current(self._run).opened + self._place.terms[2])

    def close_reveals(self, published: int) -> None:
        """Unless all who committed have published, wait until nobody can reveal any more."""
        current = self._contracts.current(self._run)
        if published < current.committed:
            self._chain.wait(current.opened + self._place.terms[2] + self._place.terms[3])


def _public_terms(recipe: Recipe, members: int, width: int, limit: int) -> tuple[int, ...]:
    """Return the terms of a run of public deltas; raise `RecipeError` for updates that the contract cannot average."""
    if width > SMALL:
        raise RecipeError(f'ledger.mode = "public": an update of {width} numbers, the contract averages at most '
                          f"{SMALL}; take a smaller learner, or a mechanism.sparsity that keeps fewer")  # fmt: skip
    if limit > 127:
        raise RecipeError(f'ledger.mode = "public": an update has numbers up to {limit}, public deltas are int8; say '
                          f"mechanism.bytes = 1")  # fmt: skip
    # A block of an embedded chain takes a second at least, and each site commits in one of its own.
    seconds = max(math.ceil(recipe.schedule.deadline), 4 * members)
    least = max(1, members // 4)
    return -(-width // 32), least, seconds, seconds, seconds, recipe.ledger.bond


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

    def stake(self, place: Place, identity: Identity) -> None:
        """Deposit what a run of public deltas asks for, unless it is there."""
        contracts, bond = Contracts(self._chain, place.addresses), place.terms[5]
        missing = bond - contracts.read("Quorum", "deposits", identity.address)
        if missing > 0:
            contracts.write(identity, "Token", "approve", contracts.address("Quorum"), missing)
            contracts.write(identity, "Quorum", "deposit", missing)

    def commit(self, place: Place, run: bytes, identity: Identity, delta: bytes, salt: bytes) -> None:
        """Commit to a public delta from one's own account, once."""
        rounds = PublicRounds(Contracts(self._chain, place.addresses), run)
        attempt, update = rounds.attempt(), Update(identity.address, delta, salt)
        if not rounds.is_committed(attempt, update):
            rounds.commit(identity, attempt, update)

    def attempt(self, place: Place, run: bytes) -> int:
        """Return the contract's number of the attempt under way."""
        return Contracts(self._chain, place.addresses).current(run).attempt

    def reveal(self, place: Place, run: bytes, identity: Identity, delta: bytes, salt: bytes) -> None:
        """Show one's update on the chain, so that nobody can leave it out."""
        rounds = PublicRounds(Contracts(self._chain, place.addresses), run)
        rounds.reveal(identity, Update(identity.address, delta, salt))

    def published(
        self, place: Place, run: bytes, data: bytes, layers: Layers, told: Told | None, whole: bool = True
    ) -> Published:
        """Return what follows from a round's published bytes, checked against the commitments on the chain.

        `whole`: the opinions of those who speak must be there. With `told` None the bytes are those of a round that is
        over, to be believed as a threshold of sites signed them.
        """
        published = read_published(data, place, layers, told)
        if told is None:
            return published
        if whole:
            require_opinions(published, told, place, layers)
        rounds = PublicRounds(Contracts(self._chain, place.addresses), run)
        attempt = rounds.attempt()
        for update in published.updates:
            if not rounds.is_committed(attempt, update):
                raise ProtocolError(f"0x{update.who.hex()} committed to another update than the published one")
        return published


def votes_of(record: bytes, place: Place) -> Signed:
    """Return the ballots of a record that are counted: members', as many as a round takes."""
    members = place.accounts[:MOST_MEMBERS]
    return [(members[seat], signature) for seat, signature in read_ballots(record) if seat < len(members)]
