"""A site's side of every round: its keys, its policy, whom it trusts, what it spent. Frames in, frames out.

The agent believes nothing that a coordinator says: it holds the recipe itself, recomputes every hash and the new
prior, and signs only what it has checked. Whatever it refuses, it refuses with a sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from commonprior.accountant import Spend, charge, spend_of
from commonprior.aggregation import Summed, check_agreement, new_prior, read_sum, release_of
from commonprior.ballot import Ballot, Place
from commonprior.canonical import Value, decode, digest
from commonprior.defence.history import History
from commonprior.entry import (
    Opening,
    Round,
    opening_ballot,
    read_entry,
    read_record,
    round_ballot,
    signers,
    statement_of,
)
from commonprior.errors import (
    NOTHING_LEFT,
    BudgetExhausted,
    InputError,
    LedgerError,
    MalformedMessage,
    PolicyRefusal,
    ProtocolError,
    UnsoundPrior,
)
from commonprior.frame import Frame, open_frame, seal
from commonprior.identity import Identity
from commonprior.prior import Prior
from commonprior.privacy import Mechanism, Release
from commonprior.session import COORDINATOR, Seat, Session, read_session
from commonprior.site import Context, Contributor, Protected, Registry
from commonprior.site.consent import Consent, Terms
from commonprior.site.crafted import crafted
from commonprior.site.memory import WITHHELD, Finished, SiteLog
from commonprior.site.policy import Policy
from commonprior.site.publisher import Publisher
from commonprior.sums import CONSISTENCY, Machine, Step

OPENS_SESSION = ("enrol", "invite")
"""The phases whose frames bring their session with them."""

_OPENED = "commonprior/opened/1"


@dataclass
class _Attempt:
    session: Session
    seat: Seat
    prior: Prior
    mechanism: Mechanism
    release: Release
    protected: Protected
    machine: Machine | None
    publisher: Publisher | None
    spend: Spend
    charged: bool = False
    phase: str = ""
    judged: bytes = b""


@dataclass
class Agent:
    """One site. `trusted` are the public keys that it counts towards its minimum cohort, its own among them, `names`
    whose they are; `registry` is its own view of the ledger, where there is one.
    """

    name: str
    identity: Identity
    terms: Terms
    policy: Policy
    trusted: frozenset[bytes]
    contributor: Contributor
    log: SiteLog
    registry: Registry | None = None
    names: Mapping[str, bytes] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"masking": 0.0})

    def __post_init__(self) -> None:
        self._attempt: _Attempt | None = None

    @property
    def _consent(self) -> Consent:
        return Consent(self.name, self.terms, self.policy, self.trusted, self.names)

    def receive(self, data: bytes) -> Sequence[bytes]:
        """Take one frame from the coordinator; return what the site answers, nothing to bytes that mean nothing."""
        try:
            phase, session = self._peek(data)
            seat = session.seat_of(self.identity.key)
            if seat is None:
                return []
            frame = open_frame(data, session, seat)
            if frame.sender != COORDINATOR or session.coordinator != self.terms.coordinator:
                return []
        except ProtocolError:
            return []
        try:
            return self._answer(phase, session, seat, frame, data)
        except (PolicyRefusal, BudgetExhausted, ProtocolError, LedgerError, InputError) as refusal:
            why = f"{NOTHING_LEFT}{refusal}" if isinstance(refusal, BudgetExhausted) else str(refusal)
            return [seal(self.identity, session, "refuse", seat, COORDINATOR, why)]

    def _answer(self, phase: str, session: Session, seat: Seat, frame: Frame, data: bytes) -> Sequence[bytes]:
        match phase, frame.body:
            case "enrol", {"entry": bytes() as opening, **_rest}:
                return [self._sign_entry(session, seat, *self._check_opening(session, seat, opening))]
            case "invite", {"prior": bytes() as prior, "record": bytes() as record, **rest}:
                return self._enter(session, seat, prior, record, rest.get("before"))
            case "acknowledge", {"entry": bytes() as entry, "total": bytes() as total}:
                return [self._sign_entry(session, seat, *self._check_round(session, entry, total))]
            case (("enrol" | "invite" | "acknowledge"), _):
                raise MalformedMessage(f"{phase}: the body is not what it should be")
            case _:
                attempt = self._attempt
                if attempt is None or attempt.session.hash != session.hash:
                    raise PolicyRefusal(f"{self.name} is not part of this attempt any more: count it as dropped")
                attempt.phase = phase
                if attempt.publisher is not None:
                    said, body = self._public(attempt, attempt.publisher, phase, frame.body)
                    return [seal(self.identity, session, said, seat, COORDINATOR, body)]
                if attempt.machine is None:
                    raise MalformedMessage(f"{phase}: no phase of this round")
                start = time.perf_counter()
                step = attempt.machine.receive(COORDINATOR, data)
                self.seconds["masking"] += time.perf_counter() - start
                return self._perform(step)

    def _peek(self, data: bytes) -> tuple[str, Session]:
        """Find out which session a frame speaks of: its own where it brings one, else the current attempt's."""
        match decode(data):
            case [bytes() as content, bytes()]:
                pass
            case _:
                raise MalformedMessage("expected a frame")
        match decode(content):
            case [bytes(), str() as phase, int(), int(), {"session": dict() as session, **_rest}] if (
                phase in OPENS_SESSION
            ):
                return phase, read_session(session)
            case [bytes(), str() as phase, int(), int(), _]:
                if self._attempt is None:
                    raise ProtocolError("no attempt is under way")
                return phase, self._attempt.session
            case _:
                raise MalformedMessage("expected frame content")

    def _check_opening(self, session: Session, seat: Seat, data: bytes) -> tuple[bytes, Ballot | None]:
        entry, terms = read_entry(data), self.terms
        if not isinstance(entry, Opening):
            raise ProtocolError("the first entry does not open a run")
        if entry.recipe_hash != terms.recipe_hash or entry.recipe_hash != session.recipe:
            raise PolicyRefusal(
                f"{self.name} agreed to recipe {terms.recipe_hash.hex()[:16]}…, not {entry.recipe_hash.hex()[:16]}…"
            )
        same = (entry.run, entry.coordinator, entry.roster, entry.dropouts, entry.colluders, entry.prior)
        if same != (
            session.run,
            session.coordinator,
            session.roster,
            session.dropouts,
            session.colluders,
            session.base,
        ):
            raise ProtocolError("the opening entry and its session disagree")
        self._consent.check_session(session)
        self._consent.check_mechanism(terms.mechanism)
        place = Place.read(entry.ledger, len(entry.roster))
        self._check_place(place, seat)
        self._finish(Finished(0, digest(data), entry.prior), None)
        if self.log.opened() != _fixed_by(session) or self.log.ledger() != entry.ledger:
            self.log.open(_fixed_by(session), entry.ledger)
        return data, opening_ballot(entry) if place is not None else None

    def _check_place(self, place: Place | None, seat: Seat) -> None:
        """Refuse a run that is not recorded where the recipe says, or counts ballots of other accounts."""
        kind = "none" if place is None else place.kind
        if kind != self.terms.ledger:
            raise PolicyRefusal(f"{self.name} agreed to a ledger of kind {self.terms.ledger}, not {kind}")
        if place is None:
            return
        if self.registry is None:
            raise PolicyRefusal(f"{self.name} has no node to ask about a ledger of kind {kind}: name one")
        if place.accounts[seat] != self.identity.address:
            raise PolicyRefusal(f"{self.name}'s account is 0x{self.identity.address.hex()}, the opening names "
                                f"0x{place.accounts[seat].hex()}")  # fmt: skip
        self.registry.check(place)
        if (place.mode == "public") != self.terms.public:
            raise PolicyRefusal(f"{self.name} agreed to {'public' if self.terms.public else 'hidden'} deltas")
        if self.terms.public:
            self.registry.stake(place, self.identity)

    def _place(self, session: Session) -> Place | None:
        return Place.read(self.log.ledger(), len(session.roster))

    def _check_registry(self, session: Session) -> None:
        """Refuse a prior that is not the newest one of the registry."""
        place, opening = self._place(session), self.log.finished_at(0)
        if place is None or opening is None or self.registry is None:
            return
        known = self.registry.head(place, opening.head)
        if known != (session.round - 1, session.base):
            newest = "nothing" if known is None else f"{known[1].hex()[:16]}… of round {known[0]}"
            raise PolicyRefusal(
                f"{self.name} is to start round {session.round} from prior {session.base.hex()[:16]}…, but the "
                f"registry's newest is {newest}"
            )

    def _enter(self, session: Session, seat: Seat, prior_bytes: bytes, record: bytes, before: Value) -> Sequence[bytes]:
        current = self._attempt
        if current is not None and current.session.hash == session.hash:
            return [seal(self.identity, session, "joined", seat, COORDINATOR, None)]
        self._consent.check_session(session)
        if self.log.opened() != _fixed_by(session):
            raise PolicyRefusal(
                f"{self.name} signed no opening of a run with this coordinator, this roster, {session.dropouts} "
                f"dropouts and {session.colluders} colluders: what a run was opened with holds in all its rounds"
            )
        self._check_history(session, record)
        self._check_registry(session)
        if session.attempt <= self.log.last_attempt(session.round):
            raise PolicyRefusal(
                f"{self.name} entered attempt {session.attempt} of round {session.round} before a restart: "
                f"count it as dropped"
            )
        prior = Prior.decode(prior_bytes)
        if digest(prior_bytes) != session.base:
            raise ProtocolError("the prior's bytes do not have the hash that the session names")
        with crafted(prior):
            mechanism, release = self.terms.mechanism.resume(prior.state), self._release(session, prior)
        if session.round == 1 and mechanism != self.terms.mechanism:
            raise ProtocolError("the first prior moves the mechanism, which has seen nothing yet")
        self._consent.check_mechanism(mechanism)
        if (session.length, session.encoding) != (mechanism.width(release.length), mechanism.encoding(release)):
            raise ProtocolError("the session's length or encoding is not what this prior and mechanism make")
        spend = spend_of(mechanism.spends(release), mechanism.unit)
        self._check_budget(spend)
        self.log.entered(session.round, session.attempt, session.head)
        context = Context(session, prior, release, self.terms.seed)
        with self._own_tasks():
            protected = self.contributor.contribute(context, mechanism, self.log.recall(session.round - 1))
        history = self._history(session, record, before)
        machine, publisher = None, self._publisher(context, seat, mechanism, protected.integers, history)
        if publisher is None:
            machine = self.terms.sum.party(session, seat, self.identity, protected.integers, os.urandom, self._guard)
        self._attempt = _Attempt(session, seat, prior, mechanism, release, protected, machine, publisher, spend)
        return [seal(self.identity, session, "joined", seat, COORDINATOR, None)]

    def _history(self, session: Session, record: bytes, before: Value) -> History:
        """Return where the round before left everyone, from what it published: the last record names its hash."""
        place, opening, entry = self._place(session), self.log.finished_at(0), read_entry(read_record(record)[0])
        if not self.terms.public or not isinstance(entry, Round):
            return History()
        if self.registry is None or place is None or opening is None:
            raise PolicyRefusal(f"{self.name} publishes its updates through a ledger, and this run has none")
        if not isinstance(before, bytes) or digest(before) != entry.sum:
            raise ProtocolError("what the round before published is not what its record names")
        published = self.registry.published(place, opening.head, before, self.terms.defence, None)
        return published.following(entry.round, entry.base, self.terms.defence)

    def _publisher(
        self, context: Context, seat: Seat, mechanism: Mechanism, integers: np.ndarray, history: History
    ) -> Publisher | None:
        """Return what publishes an update, where updates are public; nothing else may."""
        session, prior, terms = context.session, context.prior, self.terms
        place, opening = self._place(session), self.log.finished_at(0)
        if not terms.public:
            return None
        if place is None or opening is None or self.registry is None:
            raise PolicyRefusal(f"{self.name} publishes its updates through a ledger, and this run has none")

        def losses(moves: np.ndarray) -> np.ndarray:
            with self._own_tasks():
                means = [mechanism.mean(m[: session.length], session.encoding, context.release, 1) for m in moves]
                priors = [terms.learner.apply(prior, mean, None) for mean in means]
                return np.asarray([self.contributor.loss(context, p) for p in priors])

        def loss() -> float:
            with self._own_tasks():
                return self.contributor.loss(always, prior)

        # On the same tasks in every round: the best of many draws would be a measure that no later version meets.
        always = context._replace(session=dataclasses.replace(session, round=0))
        return Publisher(self.identity, self.registry, place, opening.head, seat, terms.defence, integers,
                         losses if mechanism.noise == 0 else None,
                         loss, history, session, self._charge)  # fmt: skip

    @contextlib.contextmanager
    def _own_tasks(self) -> Iterator[None]:
        """Say no more than that something failed: what a learner says of labels or numbers is about tasks that are
        shown to no one, and a refusal goes to the coordinator, un-noised and uncharged.
        """
        try:
            yield
        except UnsoundPrior:
            raise
        except Exception as error:
            self.log.withhold(f"{type(error).__name__}: {error}")
            raise PolicyRefusal(
                f"{self.name} cannot work with its own tasks from this prior; why stands in its own {WITHHELD}"
            ) from error

    def _charge(self) -> None:
        """Write the spend of the attempt under way to the disk, once: before anything of it leaves."""
        attempt = self._attempt
        if attempt is not None and not attempt.charged:
            self.log.spent(attempt.session.round, attempt.session.attempt, attempt.spend)
            attempt.charged = True

    def _public(self, attempt: _Attempt, publisher: Publisher, phase: str, body: Value) -> tuple[str, Value]:
        """Take one phase of a round of public deltas: the spend is on the disk before the delta leaves."""
        match phase, body:
            case "commit", None:
                publisher.commit()
                return "committed", None
            case "publish", None:
                self._charge()
                return "published", publisher.publish()
            case "opine", {"published": bytes() as published}:
                return "opinion", publisher.opine(published)
            case _:
                raise MalformedMessage(f"{phase}: no phase of a round of public deltas")

    def _perform(self, step: Step) -> Sequence[bytes]:
        """Do what the machine wants, in its order: the spend is on the disk before the sealed bytes leave, once."""
        if step.persist:
            self._charge()
        return [frame for _, frame in step.send]

    def _guard(self, seats: frozenset[Seat]) -> None:
        """Refuse a contributor set that is too small to hide in, or another one than a noiseless round had before."""
        attempt = self._attempt
        if attempt is None:
            raise PolicyRefusal("no attempt is under way")
        session = attempt.session
        keys = sorted(session.roster[seat].key for seat in seats)
        self._consent.check_cohort(keys, session.colluders)
        if attempt.phase != CONSISTENCY:
            return
        before = self.log.signed_before(session.round)
        if not attempt.spend.private and before is not None and before != keys:
            raise PolicyRefusal(
                f"round {session.round} was signed for {len(before)} contributors and nothing is noised: "
                f"a sum over other ones ({len(keys)}) would show the difference"
            )
        self.log.signed(session.round, session.attempt, keys)

    def _check_round(self, session: Session, data: bytes, total: bytes) -> tuple[bytes, Ballot | None]:
        """Recompute the new prior from the sum, and sign the entry only if it says the same."""
        attempt, entry = self._attempt, read_entry(data)
        if attempt is None or attempt.session.hash != session.hash or not isinstance(entry, Round):
            raise ProtocolError("an entry of another session")
        told = (entry.round, entry.attempt, entry.base, entry.previous, entry.length, entry.encoding)
        if told != (session.round, session.attempt, session.base, session.head, session.length, session.encoding):
            raise ProtocolError("the entry and its session disagree")
        place, opening = self._place(session), self.log.finished_at(0)
        embedded = place is not None and place.kind == "embedded" and self.registry is not None
        if entry.block != (self.registry.newest() if embedded and self.registry is not None else b""):
            raise ProtocolError("the entry names another newest block than the chain's")
        grouping, ballot, back, counted = self.terms.sum.grouping, None, None, session.attempt
        if attempt.publisher is None:
            check_agreement(session, grouping, entry)
            summed = read_sum(total, session, grouping, entry, attempt.release)
        else:
            if digest(total) != entry.sum:
                raise ProtocolError("the published bytes are not those that the entry names")
            mean, back, ballot, counted = attempt.publisher.check(entry, total)
            count = len(entry.survivors)
            summed = Summed((mean.astype(np.int64) * count)[None], attempt.release, (count,))
        with crafted(attempt.prior):
            new, _ = new_prior(self.terms.learner, attempt.mechanism, grouping, attempt.prior, session.encoding, summed)
        if entry.prior != (back or new.hash()):
            raise ProtocolError("the entry names another prior than the one that its sum makes")
        if self.policy.worst_loss and back is None:
            # One answer an attempt: under a masked sum a coordinator may make up as many totals as it likes.
            if attempt.judged not in (b"", digest(data)):
                raise PolicyRefusal(f"{self.name} has judged another outcome of this attempt, and judges one")
            attempt.judged = digest(data)
            context = Context(session, attempt.prior, attempt.release, self.terms.seed)
            with self._own_tasks():
                losses = [self.contributor.loss(context, prior) for prior in (attempt.prior, new)]
            self._consent.check_losses(*losses)
        self._finish(
            Finished(session.round, digest(data), entry.prior, session.attempt, counted),
            attempt.protected if attempt.seat in entry.survivors else None,
        )
        hidden = round_ballot(opening.head, entry) if place is not None and opening is not None else None
        return data, ballot or hidden

    def _finish(self, finished: Finished, protected: Protected | None) -> None:
        before = self.log.finished_at(finished.round)
        if before == finished:
            return
        others = [signed for signed in self.log.all_signed_at(finished.round) if signed.head != finished.head]
        if finished.round > 0 and any(signed.counted == finished.counted for signed in others):
            raise PolicyRefusal(
                f"{self.name} signed another outcome of round {finished.round}, attempt {finished.counted}: two "
                f"ballots in one attempt are a fault"
            )
        if self.log.moved_past(finished.round):
            raise PolicyRefusal(f"{self.name} signed round {finished.round} before, with another outcome")
        memory = protected.memory if protected is not None else self.log.recall(finished.round - 1)
        self.log.remember(finished.round, memory)
        self.log.finished(finished)

    def _sign_entry(self, session: Session, seat: Seat, entry: bytes, ballot: Ballot | None) -> bytes:
        """Return the site's consent: as itself, and as an account of the ledger where there is one."""
        signed = {"signature": self.identity.sign(statement_of(entry)), "ballot": b""}
        place = self._place(session)
        if ballot is not None and place is not None:
            signed["ballot"] = self.identity.sign_digest(ballot.digest(place.counter))
        return seal(self.identity, session, "signed", seat, COORDINATOR, signed)

    def _check_history(self, session: Session, record: bytes) -> None:
        """A head that this site did not sign itself must carry a threshold of its peers' signatures.

        The last round may be tried again as long as the site has not gone on from it: its record may have been lost.
        """
        data, signatures = read_record(record)
        entry = read_entry(data)
        number = entry.round if isinstance(entry, Round) else 0
        if (digest(data), number + 1, entry.prior) != (session.head, session.round, session.base):
            raise ProtocolError("the last record, the head and the prior of the session do not belong together")
        if self.log.moved_past(session.round):
            raise PolicyRefusal(f"{self.name} has gone on from round {session.round}: it does not take it up again")
        own = self.log.finished_at(number)
        agreed = signers(data, signatures, session.roster)
        if own is not None and own.head != session.head and self.log.moved_past(number):
            raise PolicyRefusal(f"{self.name} knows another history: it signed round {number} with another head")
        if self.log.built_on(session.round) not in (None, session.head):
            raise PolicyRefusal(f"{self.name} knows another history: it began round {session.round} on another head")
        if (own is None or own.head != session.head) and len(agreed) < session.threshold:
            raise PolicyRefusal(f"round {number} is signed by {len(agreed)} sites, expected {session.threshold}")

    def _check_budget(self, spend: Spend) -> None:
        spent = self.log.spent_so_far(spend.unit)
        try:
            charge(spent, spend, self.terms.epsilon, self.terms.delta)
            # At the site's own delta: at one near 1, which a recipe may ask for, any epsilon is small.
            charge(spent, spend, self.policy.maximum_epsilon, min(self.policy.delta, self.terms.delta))
        except BudgetExhausted as error:
            raise BudgetExhausted(f"{self.name}: {error}") from None

    def _release(self, session: Session, prior: Prior) -> Release:
        length = self.terms.learner.length(prior)
        return release_of(self.terms.sum, len(session.roster), session.dropouts, session.colluders, length,
                          self.terms.rows, self.terms.public)  # fmt: skip


def _fixed_by(session: Session) -> bytes:
    """Return the hash of what an opening fixes for every session of its run."""
    roster = [[member.name, member.key] for member in session.roster]
    return digest([_OPENED, session.run, session.coordinator, roster, session.dropouts, session.colluders])
