"""Verify a run's record from its first byte, believing nobody.

Every line: its bytes are canonical, it follows the one before, the sites whose keys stand in the opening signed it,
they agreed beforehand on whose sealed bytes are summed, and (where the run folder still has the sum) the new prior
is what the recipe's learner makes of the old one and that sum. Where there is a ledger, two thirds of its members cast
their ballots on it, and the chain, replayed from its first block, holds the same records in the same order. A journal
that was cut short or signed anew by other keys looks whole by itself: `trust` and `expect_head` are what an outsider
knows from elsewhere.

A chain alone is enough for all but the priors' recomputation: its transactions hold the records and the ballots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commonprior.accountant import Spend, nothing_spent, spend_of
from commonprior.aggregation import Summed, check_agreement, new_prior, read_sum, release_of
from commonprior.appendlog import read_records
from commonprior.ballot import NOTHING, Place
from commonprior.canonical import decode, digest
from commonprior.defence.history import History, Version
from commonprior.entry import (
    NO_HEAD,
    Entry,
    Opening,
    Round,
    Signatures,
    opening_ballot,
    read_ballots,
    read_entry,
    read_record,
    round_ballot,
    signers,
)
from commonprior.errors import CommonPriorError, InputError, JournalError, ProtocolError, RecipeError
from commonprior.identity import signer_of
from commonprior.ledger import Chain
from commonprior.ledger.book import node, votes_of
from commonprior.ledger.client import MOST_BALLOTS, MOST_MEMBERS, Contracts
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.journal import Journal
from commonprior.ledger.onchain import Entered, check_means, entered
from commonprior.ledger.published import Published, read_published, require_opinions
from commonprior.ledger.rewards import Account, check_claims
from commonprior.ledger.rpc import Rpc
from commonprior.prior import Prior, load_prior
from commonprior.privacy import Mechanism, Release
from commonprior.publicround import summed_of
from commonprior.recipe import PLUGINS, Ledger, Recipe, read_toml, recipe_from
from commonprior.runfolder import RunFolder
from commonprior.session import Session
from commonprior.site import Told
from commonprior.sums import WHOLE, Grouping, SecureSum, read_parts
from commonprior.tables import build, without_none

_MOST_OPENED = 64
"""How many attempts of the contract a round may have beyond its sites'."""

NOTHING_PAID = Account(0, 0, {})


@dataclass(frozen=True)
class Verdict:
    """What holds: how many rounds, what the head is, of how many the prior was computed again from the sum, and the sum
    from the sealed bytes, and how many of the rounds are in which ledger. What was put into its pot, and paid for so
    many claims, is in millionths of a credit.
    """

    rounds: int
    head: bytes
    prior: bytes
    recomputed: int
    resummed: int
    entered: int
    ledger: str
    sites: tuple[str, ...]
    unit: str
    epsilon: float
    delta: float
    hidden: bool
    funded: int
    claims: int
    paid: int


def audit(folder: Path, trust: Sequence[bytes] = (), expect_head: bytes | None = None) -> Verdict:
    """Verify a run folder; raise `JournalError` that names the first entry that does not hold."""
    run = RunFolder(folder)
    if not run.journal.exists():
        raise InputError(f"{run.journal}: no record here; name a run folder")
    records, whole = read_records(run.journal)
    if whole < run.journal.stat().st_size:
        raise JournalError(f"{run.journal}: entry {len(records)} is torn: the file goes on for "
                           f"{run.journal.stat().st_size - whole} bytes after byte {whole}")  # fmt: skip
    check = _Audit(run, tuple(trust))
    for number, record in enumerate(records):
        try:
            data, signatures = read_record(record)
            check.take(read_entry(data), data, signatures, read_ballots(record))
        except CommonPriorError as error:
            raise JournalError(f"{run.journal}: entry {number} does not hold: {error}") from None
    verdict = check.verdict(*_entered(run, check.opening, check.means))
    if expect_head is not None and verdict.head != expect_head:
        raise JournalError(
            f"{run.journal}: the record ends at {verdict.head.hex()} after round {verdict.rounds}, expected head "
            f"{expect_head.hex()}: it was cut short, or it is another history"
        )
    if run.prior.exists() and load_prior(run.prior).hash() != verdict.prior and check.finished:
        raise JournalError(f"{run.prior}: is not the prior that entry {verdict.rounds} names")
    return verdict


def audit_chain(chain: Chain, addresses: Sequence[bytes], run: bytes, trust: Sequence[bytes] = ()) -> Verdict:
    """Verify a run from what a chain holds of it, without any file; raise `JournalError` for what does not hold.

    `addresses` are the six contracts', `run` the hash of the opening record. The sites' accounts vouch for the records.
    """
    contracts = Contracts(chain, tuple(addresses))
    contracts.check()
    check = _Audit(None, tuple(trust))
    found = entered(contracts, run)
    if not found:
        raise InputError(f"chain {chain.number} holds no run {run.hex()}: name the hash of a run's opening record")
    for number, record in enumerate(found):
        try:
            entry = read_entry(record.entry)
            check.take(entry, record.entry, (), check.seated(entry, record))
        except CommonPriorError as error:
            raise JournalError(f"chain {chain.number}: record {number} does not hold: {error}") from None
    _compare(contracts, run, [record.prior for record in found])
    check_means(contracts, run, found)
    opening = check.opening
    paid = check_claims(contracts, opening) if opening is not None else NOTHING_PAID
    return check.verdict(len(found) - 1, paid)


def _entered(run: RunFolder, opening: Opening | None, means: Mapping[int, bytes]) -> tuple[int, Account]:
    """Return how many rounds of the journal the ledger has, and what it paid; raise `JournalError` where not so."""
    place = Place.read(opening.ledger, len(opening.roster)) if opening is not None else None
    if opening is None or place is None:
        return 0, NOTHING_PAID
    if place.kind == "embedded":
        if not run.chain.exists():
            raise JournalError(f"{run.chain}: is missing, though the record names an embedded ledger")
        blocks, whole = read_records(run.chain)
        if whole < run.chain.stat().st_size:
            raise JournalError(f"{run.chain}: block {len(blocks) + 1} is torn after byte {whole}")
        chain: Chain = Embedded(run.chain)
    else:
        chain = Rpc(node(), place.chain)
    contracts = Contracts(chain, place.addresses)
    contracts.check()
    found = entered(contracts, digest(opening.encode()))
    journal = Journal(run.journal)
    if len(journal.records) - len(found) not in (0, 1):  # one more where a coordinator was stopped in between
        raise JournalError(f"the ledger holds {len(found)} records of this run, its journal {len(journal.records)}")
    for number, (record, there) in enumerate(zip(journal.records, found, strict=False)):
        data, entry = read_record(record)[0], journal.entries[number]
        votes = [signature for _, signature in sorted(votes_of(record, place))][:MOST_BALLOTS]
        cast = [vote for vote in votes if vote in set(there.ballots)]  # whoever has left the consortium has no vote
        if data != there.entry or cast != list(there.ballots) or entry.prior != there.prior:
            raise JournalError(f"record {number} of the ledger is not entry {number} of the journal")
        known = {there.after} if place.mode == "hidden" else set(getattr(chain, "hashes", [b""]))
        if isinstance(entry, Round) and entry.block not in known:
            raise JournalError(f"entry {number} names another newest block than the chain had when it was entered")
    _compare(contracts, digest(opening.encode()), [record.prior for record in found])
    check_means(contracts, digest(opening.encode()), found, means)
    return len(found) - 1, check_claims(contracts, opening)


def _compare(contracts: Contracts, run: bytes, priors: Sequence[bytes]) -> None:
    """Raise `JournalError` unless the registry knows these priors, round by round."""
    standing = contracts.standing(run)
    if standing is None or (standing.rounds, standing.prior) != (len(priors) - 1, priors[-1]):
        raise JournalError("the registry's newest prior is not the one that the last record makes")
    for number, prior in enumerate(priors):
        if contracts.read("Registry", "prior_of", run, number) != prior:
            raise JournalError(f"the registry has another prior for round {number} than its record names")


@dataclass(frozen=True)
class _Readable:
    """What an audit reads of a recipe by itself, where other parts of it, a learner of one's own, are not here."""

    sum: SecureSum
    ledger: Ledger = field(default_factory=Ledger)


class _Audit:
    """What the entries read so far have established. Without a run folder, the accounts' ballots vouch for them."""

    def __init__(self, run: RunFolder | None, trust: tuple[bytes, ...]) -> None:
        self._run, self._trust = run, trust
        self._place: Place | None = None
        self._opening: Opening | None = None
        self._recipe: Recipe | None = None
        self._prior: Prior | None = None
        self._head, self._base = NO_HEAD, NO_HEAD
        self._rounds = self._recomputed = self._resummed = 0
        self._spent: Spend | None = None
        self._last: Round | None = None
        self._published: Published | None = None
        self._history = History()
        self._back: Version | None = None
        self._versions: dict[int, Prior] = {}
        self._means: dict[int, bytes] = {}
        self._judged = (NOTHING, b"")  # of a round of public deltas: what its ballots name, everybody's scores

    @property
    def finished(self) -> bool:
        """Whether every round of the recipe is there."""
        return self._recipe is not None and self._rounds >= self._recipe.schedule.rounds

    @property
    def means(self) -> dict[int, bytes]:
        """What the published updates of each round average to, where they are public."""
        return self._means

    @property
    def opening(self) -> Opening | None:
        """The opening, once it has been taken."""
        return self._opening

    def take(self, entry: Entry, data: bytes, signatures: Signatures, ballots: Signatures) -> None:
        if isinstance(entry, Opening):
            self._open(entry, data, signatures)
        elif self._opening is None:
            raise JournalError("a round before the opening")
        else:
            self._round(entry, data, signatures, self._opening)
        self._count(entry, ballots)
        self._head, self._base = digest(data), entry.prior

    def seated(self, entry: Entry, record: Entered) -> Signatures:
        """Return a record's ballots with the seats of the accounts that cast them."""
        opening = entry if isinstance(entry, Opening) else self._opening
        place = Place.read(opening.ledger, len(opening.roster)) if opening is not None else None
        if opening is None or place is None:
            raise JournalError("the opening names no ledger")
        if len({bytes(row) for row in record.scores}) > 1:
            raise JournalError("its ballots have different scores, though all sites compute the same")
        self._judged = record.subject, next(iter(record.scores), b"")
        vote = self._vote(entry, opening, place, record.ballots[0] if record.ballots else b"")
        voters = [signer_of(vote, signature) for signature in record.ballots]
        if None in voters or not set(voters) <= set(place.accounts):
            raise JournalError("a ballot of no account of the run")
        return tuple((place.accounts.index(who), s) for who, s in zip(voters, record.ballots, strict=True) if who)

    def _vote(self, entry: Entry, opening: Opening, place: Place, first: bytes) -> bytes:
        """Return what the ballots sign. The contract counts its own attempts, as members may open some: `first` shows.

        That it is the attempt which was finalised shows where the chain's ballots are compared with the journal's.
        """
        if isinstance(entry, Opening):
            return opening_ballot(entry).digest(place.counter)
        run, attempts = digest(opening.encode()), [entry.attempt]
        if place.mode == "public":
            attempts = sorted(range(entry.attempt + _MOST_OPENED), key=lambda n: abs(n - entry.attempt))
        votes = [round_ballot(run, entry, n, *self._judged).digest(place.counter) for n in attempts]
        return next((vote for vote in votes if signer_of(vote, first) in place.accounts), votes[-1])

    def _count(self, entry: Entry, ballots: Signatures) -> None:
        """Check every ballot, and that two thirds of the members cast theirs."""
        place, opening = self._place, self._opening
        if place is None or opening is None:
            if ballots:
                raise JournalError("it carries ballots, though the run has no ledger")
            return
        vote = self._vote(entry, opening, place, ballots[0][1] if ballots else b"")
        seats = [seat for seat, _ in ballots]
        if seats != sorted(set(seats)) and self._run is not None:
            raise JournalError("its ballots are not in the order of their seats, each once")
        for seat, signature in ballots:
            if not 0 <= seat < len(place.accounts) or signer_of(vote, signature) != place.accounts[seat]:
                raise JournalError(f"the ballot of seat {seat} is not its account's")
        members = min(len(place.accounts), MOST_MEMBERS)
        cast = len({seat for seat in seats if seat < members})
        if 3 * cast < 2 * members:
            raise JournalError(f"{cast} of {members} members cast their ballots, expected two thirds")

    def verdict(self, in_ledger: int, paid: Account) -> Verdict:
        if self._opening is None:
            raise JournalError("entry 0 is missing: nothing opens the run")
        last, sites = self._last, tuple(m.name for m in self._opening.roster)
        place, ledger = self._place, ""
        if place is not None:
            ledger = f"holds: {in_ledger} rounds on {place.kind} chain {place.chain}, ballots of {place.mode} deltas"
        return Verdict(
            self._rounds, self._head, self._base, self._recomputed, self._resummed, in_ledger, ledger, sites,
            last.unit if last else "", last.epsilon if last else 0.0, last.delta if last else 0.0,
            place is None or place.mode == "hidden", paid.funded, len(paid.claimed), sum(paid.claimed.values()),
        )  # fmt: skip

    def _open(self, entry: Opening, data: bytes, signatures: Signatures) -> None:
        if self._opening is not None:
            raise JournalError("the run is opened twice")
        signed = signers(data, signatures, entry.roster)
        if self._run is not None and len(signed) < len(entry.roster):
            missing = [m.name for seat, m in enumerate(entry.roster) if seat not in signed]
            raise JournalError(f"not signed by {', '.join(missing)}")
        strangers = [key for key in self._trust if key not in {m.key for m in entry.roster}]
        if strangers:
            raise JournalError(
                f"the trusted key {strangers[0].hex()[:16]}… is not in the roster: signed anew by others"
            )
        if digest(["commonprior/recipe/1", entry.recipe]) != entry.recipe_hash:
            raise JournalError("the recipe does not have the hash that the entry names")
        self._opening, self._place = entry, Place.read(entry.ledger, len(entry.roster))
        try:
            self._recipe = recipe_from(entry.recipe, "the recorded recipe")
        except RecipeError:
            self._recipe = None
        if self._recipe is not None:
            schedule = self._recipe.schedule
            if (entry.dropouts, entry.colluders) != (schedule.dropouts, schedule.colluders):
                raise JournalError(
                    f"it is opened with {entry.dropouts} dropouts and {entry.colluders} colluders, the recipe has "
                    f"{schedule.dropouts} and {schedule.colluders}"
                )
        if self._run is None:
            return
        if self._run.recipe.exists() and read_toml(self._run.recipe) != without_none(entry.recipe):
            raise JournalError(f"{self._run.recipe} is not the recipe that the sites signed")
        first = self._run.checkpoint(0)
        self._prior = load_prior(first) if first.exists() else None
        if self._prior is not None and self._prior.hash() != entry.prior:
            raise JournalError(f"{first} is not the prior that the sites started from")

    def _round(self, entry: Round, data: bytes, signatures: Signatures, opening: Opening) -> None:
        if entry.round != self._rounds + 1:
            raise JournalError(f"round {entry.round} follows round {self._rounds}")
        if entry.previous != self._head:
            raise JournalError("it does not follow the entry before it")
        if entry.base != self._base:
            raise JournalError("it does not start from the prior before it")
        session = entry.session(opening)
        public = self._place is not None and self._place.mode == "public"
        if not public:
            check_agreement(session, self._grouping(entry), entry)
        signed = signers(data, signatures, opening.roster)
        if self._run is not None and len(signed) < session.threshold:
            raise JournalError(f"the entry: signed by {len(signed)} sites, expected {session.threshold}")
        self._public(entry)
        self._sealed(entry, session)
        self._recompute(entry, opening, session)
        self._rounds, self._last = entry.round, entry

    def _grouping(self, entry: Round) -> Grouping:
        if self._recipe is None and entry.draw:
            raise JournalError("the sites drew groups, by a recipe that cannot be read: nobody can tell which")
        return self._recipe.sum.grouping if self._recipe is not None else WHOLE

    def _recompute(self, entry: Round, opening: Opening, session: Session) -> None:
        recipe = self._recipe
        if recipe is None:
            return
        file = self._run.sum_of(entry.round) if self._run is not None else None
        mechanism, length = recipe.mechanism, entry.length
        if self._prior is not None:
            mechanism, length = mechanism.resume(self._prior.state), recipe.learner.length(self._prior)
        grouping = recipe.sum.grouping
        release = release_of(recipe.sum, len(opening.roster), opening.dropouts, opening.colluders, length,
                             recipe.schedule.tasks_per_site, recipe.public)  # fmt: skip
        # Without its prior, the mechanism of a round is known only where it stays what the recipe says.
        if self._prior is not None or (mechanism.width(length) == length and not mechanism.state()):
            self._account(entry, mechanism, release)
        if self._prior is None or file is None or not file.exists():
            self._prior = None
            return
        if (entry.length, entry.encoding) != (mechanism.width(length), mechanism.encoding(release)):
            raise JournalError("its length or encoding is not what the prior and the mechanism make")
        try:
            summed = self._summed(file.read_bytes(), entry, session, grouping, release)
        except ProtocolError:
            raise JournalError(f"{file} is not the sum that the entry names") from None
        new, _ = new_prior(recipe.learner, mechanism, grouping, self._prior, entry.encoding, summed)
        self._versions[entry.round - 1] = self._prior
        self._prior = self._versions[self._back.round] if self._back is not None else new
        self._versions = {v.round: self._versions[v.round] for v in self._history.versions}
        if self._prior.hash() != entry.prior:
            raise JournalError("its sum makes another prior than the one it names")
        self._recomputed += 1

    def _summed(self, data: bytes, entry: Round, session: Session, grouping: Grouping, release: Release) -> Summed:
        if self._published is None:
            return read_sum(data, session, grouping, entry, release)
        return summed_of(self._published, session.length, release)

    def _public(self, entry: Round) -> None:
        """Take up what a round of public deltas published: it is a part of the record."""
        self._published = None
        if self._run is None or self._place is None or self._opening is None or self._place.mode != "public":
            return
        file = self._run.sum_of(entry.round)
        if not file.exists():
            raise JournalError(f"{file}: is missing, though public deltas are a part of the record")
        data = file.read_bytes()
        if digest(data) != entry.sum:
            raise JournalError(f"{file} is not what the entry names")
        layers = self._readable(self._opening).ledger.defence
        noise = self._recipe.mechanism.noise if self._recipe is not None else None
        told = Told(self._history, entry.session(self._opening), noise in (0, None))
        published = read_published(data, self._place, layers, told)
        if noise == 0:
            require_opinions(published, told, self._place, layers)
        self._means[entry.round] = published.mean.tobytes()
        self._back = published.back(entry.round, entry.base, layers)
        self._history = published.following(entry.round, entry.base, layers)
        if self._back is not None and entry.prior != self._back.prior:
            raise JournalError(
                f"the sites' losses lead back to the prior of round {self._back.round}, it names another"
            )
        if (entry.survivors, entry.commitments, entry.consistency) != (published.survivors, (), ()):
            raise JournalError("it names others than those whom its published updates lead to")
        self._published, self._judged = published, (published.subject, published.row)

    @staticmethod
    def _readable(opening: Opening) -> _Readable:
        table = {name: opening.recipe[name] for name in ("sum", "ledger") if name in opening.recipe}
        return build(_Readable, table, "the recorded recipe", PLUGINS)

    def _sealed(self, entry: Round, session: Session) -> None:
        """Compute the sum again from the sealed bytes and opened secrets that the run kept, where it kept them."""
        file = self._run.sealed_of(entry.round) if self._run is not None else None
        if self._opening is None or file is None or not file.exists() or not entry.commitments:
            return
        kind = self._recipe.sum if self._recipe is not None else self._readable(self._opening).sum
        try:
            data = file.read_bytes()
            parts = read_parts(decode(data, len(data)))  # as large as what all sites sent
            commitments = dict(zip(entry.survivors, entry.commitments, strict=True))
            total = kind.recompute(session, commitments, parts, entry.draw)
        except ProtocolError as error:
            raise JournalError(f"{file} is not what the round's sum was made from: {error}") from None
        if total is None:
            return
        if digest(total.astype(entry.encoding.word).tobytes()) != entry.sum:
            raise JournalError(f"{file} adds up to another sum than the one that the entry names")
        self._resummed += 1

    def _account(self, entry: Round, mechanism: Mechanism, release: Release) -> None:
        unit = mechanism.unit
        cost = spend_of(mechanism.spends(release), unit).times(entry.attempt + 1)
        self._spent = (self._spent or nothing_spent(unit)) + cost
        epsilon = self._spent.epsilon(entry.delta)
        said = math.inf if entry.epsilon < 0 else entry.epsilon
        if said != epsilon and not math.isclose(said, epsilon, rel_tol=1e-6):
            raise JournalError(f"it says epsilon {said:.6g}, but {epsilon:.6g} is spent")
