"""Whoever runs the rounds: holds no tasks and sees no update."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from commonprior.accountant import Spend, affords, nothing_spent, spend_of
from commonprior.aggregation import Summed, next_mechanism, read_sum, release_of
from commonprior.appendlog import AppendLog, write_whole
from commonprior.ballot import Place
from commonprior.canonical import digest, encode
from commonprior.defence.history import Version
from commonprior.engines import Engine
from commonprior.entry import NO_HEAD, Opening, Round, opening_ballot
from commonprior.errors import NOTHING_LEFT, BudgetExhausted, ProtocolError, RunError
from commonprior.identity import Identity
from commonprior.ledger.book import Book
from commonprior.ledger.journal import Journal
from commonprior.prior import Prior, load_prior
from commonprior.privacy import Release
from commonprior.publicround import Public, run_public_round, versions_of
from commonprior.recipe import Recipe
from commonprior.round import Conversation, Failed, Outcome, run_round
from commonprior.runfolder import RunFolder
from commonprior.sampling import learning_key
from commonprior.session import Member, Seat, Session
from commonprior.tables import to_table
from commonprior.tasks import Family

NO_GUARANTEE = -1.0
"""What the record says for epsilon where nothing is noised."""


class Figures(NamedTuple):
    """A run in a few words: hashes in hex."""

    rounds: int
    unit: str
    epsilon: float
    delta: float
    privacy: str
    head: str
    ledger: str
    prior: str


class Coordinator:
    """Runs the rounds of one run. Holds no tasks, sees no update; its log says which attempts it began."""

    def __init__(self, recipe: Recipe, run: RunFolder, identity: Identity, roster: tuple[Member, ...],
                 book: Book | None = None) -> None:  # fmt: skip
        self._recipe, self._run, self._identity, self._roster = recipe, run, identity, roster
        self._book = book
        self._journal = Journal(run.journal)
        self._log = AppendLog(run.path / "coordinator" / "log.cbor")
        self._lines: list[dict[str, Any]] = [v for v in self._log.values() if isinstance(v, dict)]
        self._mechanism = recipe.mechanism
        self._spent = nothing_spent(recipe.mechanism.unit)
        self._prior = Prior({})

    @property
    def prior(self) -> Prior:
        """The prior of the last finished round."""
        return self._prior

    @property
    def spent(self) -> Spend:
        """What every attempt that was begun has cost."""
        return self._spent

    @property
    def rounds_done(self) -> int:
        """How many rounds the journal holds."""
        last = self._journal.last_round
        return last.round if last else 0

    def figures(self) -> Figures:
        """Return where the run stands."""
        last, mechanism = self._journal.last_round, self._mechanism
        schedule = self._recipe.schedule
        seen = self._recipe.sum.grouping.describe(len(self._roster), schedule.dropouts, schedule.colluders)
        epsilon, delta = (last.epsilon, last.delta) if last else (0.0, self._recipe.budget.delta)
        privacy = (
            "no differential privacy (no noise)" if epsilon == NO_GUARANTEE
            else f"epsilon {epsilon:.3g} at delta {delta:.0e} for each {mechanism.unit}"
        )  # fmt: skip
        return Figures(self.rounds_done, mechanism.unit, epsilon, delta, privacy + f"; {seen}" * bool(seen),
                       self._journal.head.hex(), self._ledger(), self._prior.hash().hex())  # fmt: skip

    def _place(self) -> Place | None:
        opening = self._journal.opening
        return Place.read(opening.ledger, len(opening.roster)) if opening is not None else None

    def _ledger(self) -> str:
        """Return where the run is recorded, with all that an auditor without its files has to know."""
        opening, place = self._journal.opening, self._place()
        if opening is None or place is None:
            return "none: the sites' signed record alone"
        if place.kind == "embedded":
            return f"{self._run.chain}, chain {place.chain}: shows changes, its deadlines prove nothing"
        contracts = ",".join(f"0x{a.hex()}" for a in place.addresses)
        return f"chain {place.chain}, --contracts {contracts} --opening {digest(opening.encode()).hex()}"

    def open(self, engine: Engine, family: Family, first: Prior | None = None) -> None:
        """Open the run with every site's signature, or go on from where the journal ends.

        `first` is the prior that a new run starts from; by default one that knows nothing.
        """
        if self._journal.opening is None:
            self._enrol(engine, family, first)
            return
        if self._book is not None:
            self._book.catch_up(self._journal)  # what came too late is set aside here, and tried anew below
        last = self._journal.last_round
        named = last.prior if last else self._journal.opening.prior
        self._prior = load_prior(self._run.checkpoint(last.round if last else 0))
        if self._prior.hash() != named:
            raise RunError(
                f"{self._run.path}: the checkpoint is not the prior that the journal names; run "
                f"`commonprior audit {self._run.path}`, restore the folder, or start under another --name"
            )
        for entry in self._journal.entries:
            if isinstance(entry, Round):
                self._spent += self._cost().times(entry.attempt + 1)
                if self._recipe.public:
                    self._mechanism = self._recipe.mechanism.resume(self._prior.state)
                elif self._mechanism.state():
                    self._mechanism = next_mechanism(self._mechanism, self._summed(entry, self._journal.opening))
        self._spent += self._cost().times(len(self._begun(self.rounds_done + 1)))

    def _enrol(self, engine: Engine, family: Family, first: Prior | None) -> None:
        recipe = self._recipe
        prior = first or recipe.learner.init(family.spec, learning_key(recipe.schedule.seed, "init"))
        self._prior = Prior.decode(prior.encode())
        release = self._release()
        width, limit = self._mechanism.width(release.length), self._mechanism.encoding(release).limit
        run = os.urandom(16)
        recipe.sum.check(self._session(0, 0, run, NO_HEAD))
        place = self._book.found(recipe, width, limit) if self._book is not None else None
        opening = Opening(
            run, self._identity.key, self._roster, recipe.schedule.dropouts, recipe.schedule.colluders,
            recipe.table(), recipe.hash(), to_table(family.spec), self._prior.hash(), family.note,
            place.encode() if place is not None else {},
        )  # fmt: skip
        session = self._session(0, 0, opening.run, NO_HEAD)
        everyone = range(len(self._roster))
        talk = Conversation(engine, session, self._identity, recipe.schedule.deadline, everyone)
        asked = (opening_ballot(opening), place) if place is not None else None
        consents = talk.agree("enrol", {"session": dataclasses.asdict(session)}, opening, asked)
        if len(consents.signatures) < len(self._roster):
            why = [f"{self._roster[s].name}: {reason}" for s, reason in sorted(talk.refusals.items())]
            raise RunError(f"{len(consents.signatures)} of {len(self._roster)} sites joined. "
                           f"{'; '.join(why) or 'No answer.'}")  # fmt: skip
        self._run.keep(0, self._prior)
        self._journal.append(opening, *consents)
        self._catch_up()

    def _catch_up(self) -> None:
        """Enter in the ledger what the journal holds and the ledger does not yet."""
        if self._book is not None and not self._book.catch_up(self._journal):
            raise RunError("members had opened another attempt before the ledger was told of the last round, which is "
                           "set aside; run the same command again: that round is tried anew")  # fmt: skip

    def step(self, engine: Engine) -> None:
        """Run the next round, in as many attempts as the schedule allows."""
        number, failures, broke = self.rounds_done + 1, [], set[Seat]()
        self._catch_up()
        while len(failures) < self._recipe.schedule.attempts + len(broke):  # one that names a liar does not count
            outcome = self._attempt(engine, number, frozenset(broke))
            if isinstance(outcome, Outcome):
                self._finish(number, outcome)
                return
            failures.append(outcome)
            broke |= set(outcome.culprits)
            # Fewer than could be missed do not end a run: they would be a way for one site to end everybody's.
            spent = [why for why in outcome.refusals.values() if why.startswith(NOTHING_LEFT)]
            if len(spent) > self._recipe.schedule.dropouts:
                raise BudgetExhausted(spent[0].removeprefix(NOTHING_LEFT))
        last = failures[-1]
        why = [f"{self._roster[s].name}: {reason}" for s, reason in sorted(last.refusals.items())]
        raise RunError(f"round {number} failed {len(failures)} times, last because {last.reason}. {'; '.join(why)}")

    def _attempt(self, engine: Engine, number: int, broke: frozenset[Seat] = frozenset()) -> Outcome | Failed:
        """Try a round once, without the sites that `broke` the protocol in it as far as enough others are left."""
        opening = self._journal.opening
        if opening is None:
            raise RunError(f"{self._run.journal}: the record has no opening entry; run `commonprior audit`")
        begun = self._begun(number)
        session = self._session(number, len(begun), opening.run, self._journal.head)
        cost = self._cost()
        self._check_budget(cost)
        spent = self._spent + cost
        self._note("begun", number, session.attempt)
        self._spent = spent
        everyone = range(len(self._roster))
        others = [seat for seat in everyone if seat not in broke]
        agreed = None if spent.private else self._agreed(number)
        seats = agreed or (others if len(others) >= session.threshold else everyone)
        poll = self._book.poll(opening) if self._book is not None else None
        if self._book is not None and poll is not None and poll.place.mode == "public":
            return run_public_round(
                self._recipe, self._mechanism, self._prior, self._journal.last_record, session, engine, self._identity,
                self._public_spend(spent), Public(
                    self._book.stage(opening), poll, self._release(), self._published(), self._version
                ),
            )  # fmt: skip
        return run_round(
            self._recipe, self._mechanism, self._prior, self._journal.last_record, session, engine, self._identity,
            self._public_spend(spent), seats,
            lambda summed: self._note("agreed", number, session.attempt, summed),
            poll,
        )  # fmt: skip

    def _finish(self, number: int, outcome: Outcome) -> None:
        """Make the round's traces durable in the order in which a restart needs them."""
        write_whole(self._run.sum_of(number), outcome.total)
        if self._recipe.ledger.archive and outcome.parts:
            write_whole(self._run.sealed_of(number), encode(list(outcome.parts)))
        self._run.keep(number, outcome.prior, self._versions(outcome))
        self._journal.append(outcome.entry, outcome.signatures, outcome.ballots)
        self._catch_up()
        self._prior, self._mechanism = outcome.prior, outcome.mechanism

    def _versions(self, outcome: Outcome) -> Collection[int]:
        """Return the rounds whose priors may be needed again: of public deltas, those that may be gone back to."""
        place = self._place()
        if place is None or place.mode == "hidden":
            return ()
        return versions_of(outcome.total, outcome.entry, place, self._recipe.ledger.defence)

    def _published(self) -> bytes:
        """Return what the last round of public deltas published; nothing before the first one."""
        last = self._journal.last_round
        if last is None:
            return b""
        file = self._run.sum_of(last.round)
        data = file.read_bytes() if file.exists() else b""
        if digest(data) != last.sum:
            raise RunError(
                f"{file}: is missing or is not what the journal names, and who may take part in round "
                f"{last.round + 1} follows from it; restore the folder, or start under another --name"
            )
        return data

    def _version(self, version: Version) -> Prior:
        """Return the prior that the sites' losses lead back to."""
        file = self._run.checkpoint(version.round)
        prior = load_prior(file)
        if prior.hash() != version.prior:
            raise RunError(f"{file}: is not the prior of round {version.round}, to which the run goes back; restore "
                           f"the folder, or start under another --name")  # fmt: skip
        return prior

    def _begun(self, number: int) -> list[int]:
        return [v["attempt"] for v in self._lines if v["what"] == "begun" and v["round"] == number]

    def _agreed(self, number: int) -> list[Seat] | None:
        """Return whose updates an earlier attempt may have summed: without noise, only they can try again."""
        lines = [v["seats"] for v in self._lines if v["what"] == "agreed" and v["round"] == number]
        return lines[0] if lines else None

    def _note(self, what: str, round_: int, attempt: int, seats: Sequence[Seat] = ()) -> None:
        line: dict[str, Any] = {"what": what, "round": round_, "attempt": attempt, "seats": list(seats)}
        self._log.append(line)
        self._lines.append(line)

    def _release(self) -> Release:
        schedule, length = self._recipe.schedule, self._recipe.learner.length(self._prior)
        return release_of(self._recipe.sum, len(self._roster), schedule.dropouts, schedule.colluders, length,
                          schedule.tasks_per_site, self._recipe.public)  # fmt: skip

    def _cost(self) -> Spend:
        return spend_of(self._mechanism.spends(self._release()), self._mechanism.unit)

    def _summed(self, entry: Round, opening: Opening) -> Summed:
        """Return the integers that a finished round summed to; a mechanism that moves is built anew from them."""
        file, grouping = self._run.sum_of(entry.round), self._recipe.sum.grouping
        total = file.read_bytes() if file.exists() else b""
        try:
            return read_sum(total, entry.session(opening), grouping, entry, self._release())
        except ProtocolError:
            raise RunError(
                f"{file}: is missing or is not the sum that the journal names, and the mechanism of round "
                f"{entry.round + 1} follows from it; restore the folder, or start under another --name"
            ) from None

    def _check_budget(self, cost: Spend) -> None:
        budget = self._recipe.budget
        if not affords(self._spent, cost, budget.epsilon, budget.delta):
            spent = self._spent.epsilon(budget.delta)
            raise BudgetExhausted(
                f"{self._spent.describe(budget.delta)} is spent of a budget of {budget.epsilon:g}, and another round "
                f"would make it {(self._spent + cost).epsilon(budget.delta):.3g}: the run ends after "
                f"{self.rounds_done} rounds with {budget.epsilon - spent:.3g} left"
            )

    def _public_spend(self, spent: Spend) -> tuple[float, float]:
        delta = self._recipe.budget.delta
        return (spent.epsilon(delta) if spent.private else NO_GUARANTEE, delta)

    def _session(self, number: int, attempt: int, run: bytes, head: bytes) -> Session:
        schedule, roster = self._recipe.schedule, self._roster
        release = self._release()
        length, encoding = self._mechanism.width(release.length), self._mechanism.encoding(release)
        return Session(
            run, number, attempt, self._prior.hash(), self._recipe.hash(), head, self._identity.key, roster,
            schedule.dropouts, schedule.colluders, length, encoding,
        )  # fmt: skip
