"""A whole run: open the record, go round after round, survive a kill at any moment, end with a prior."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonprior.accountant import Spend, spend_of
from commonprior.appendlog import AppendLog, write_whole
from commonprior.engines import Engine, Outbox
from commonprior.engines.in_process import InProcess
from commonprior.entry import NO_HEAD, Opening, Round
from commonprior.errors import BudgetExhausted, RunError
from commonprior.identity import Identity
from commonprior.ledger.journal import Journal
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior, load_prior, save_prior
from commonprior.privacy import Release
from commonprior.recipe import Recipe, to_table
from commonprior.round import Conversation, Failed, Outcome, run_round
from commonprior.runfolder import RunFolder
from commonprior.sampling import learning_key
from commonprior.session import Member, Seat, Session
from commonprior.simulation import load_or_make_identity, simulate_sites
from commonprior.site.agent import Agent
from commonprior.tasks import Family

NO_GUARANTEE = -1.0
"""What the record says for epsilon where nothing is noised."""

Watch = Callable[[int, Prior, Mapping[str, float]], None]
"""Called after each round with its number, the new prior and what it cost."""


@dataclass
class Metered:
    """An engine that counts what another one carries: seconds, bytes up (from sites) and down, by phase."""

    engine: Engine
    cost: dict[str, float] = field(default_factory=dict)

    def exchange(self, session: Session, phase: str, outbox: Outbox, deadline: float) -> Outbox:
        """Carry the frames and count."""
        start = time.perf_counter()
        answers = self.engine.exchange(session, phase, outbox, deadline)
        for measure, amount in (
            ("seconds", time.perf_counter() - start),
            ("down", sum(len(frame) for frames in outbox.values() for frame in frames)),
            ("up", sum(len(frame) for frames in answers.values() for frame in frames)),
        ):
            self.cost[f"{phase}.{measure}"] = self.cost.get(f"{phase}.{measure}", 0.0) + amount
        return answers


class Coordinator:
    """Runs the rounds of one run. Holds no tasks, sees no update; its log says which attempts it began."""

    def __init__(self, recipe: Recipe, run: RunFolder, identity: Identity, roster: tuple[Member, ...]) -> None:
        self._recipe, self._run, self._identity, self._roster = recipe, run, identity, roster
        self._journal = Journal(run.journal)
        self._log = AppendLog(run.path / "coordinator" / "log.cbor")
        self._lines: list[dict[str, Any]] = [v for v in self._log.values() if isinstance(v, dict)]
        self._mechanism = recipe.mechanism
        self._spent: Spend | None = None
        self._prior = Prior({})

    @property
    def prior(self) -> Prior:
        """The prior of the last finished round."""
        return self._prior

    @property
    def rounds_done(self) -> int:
        """How many rounds the journal holds."""
        last = self._journal.last_round
        return last.round if last else 0

    def open(self, engine: Engine, family: Family) -> None:
        """Open the run with every site's signature, or go on from where the journal ends."""
        if self._journal.opening is None:
            self._enrol(engine, family)
            return
        last = self._journal.last_round
        named = last.prior if last else self._journal.opening.prior
        self._prior = load_prior(self._run.checkpoint(last.round if last else 0))
        if self._prior.hash() != named:
            raise RunError(f"{self._run.path}: the checkpoint is not the prior that the journal names; run "
                           f"`commonprior audit {self._run.path}`, restore the folder, or start under another --name")  # fmt: skip
        rounds = [(e.length, e.attempt + 1) for e in self._journal.entries if isinstance(e, Round)]
        rounds.append((self._recipe.learner.length(self._prior), len(self._begun(self.rounds_done + 1))))
        for length, attempts in rounds:
            for _ in range(attempts):
                self._spent = self._with_another(length)

    def _enrol(self, engine: Engine, family: Family) -> None:
        recipe = self._recipe
        prior = recipe.learner.init(family.spec, learning_key(recipe.schedule.seed, "init"))
        self._prior = Prior.decode(prior.encode())
        opening = Opening(
            os.urandom(16), self._identity.key, self._roster, recipe.schedule.dropouts, recipe.schedule.colluders,
            to_table(recipe), recipe.hash(), to_table(family.spec), self._prior.hash(), family.note,
        )  # fmt: skip
        session = self._session(0, 0, opening.run, NO_HEAD)
        talk = Conversation(engine, session, self._identity, recipe.schedule.deadline)
        signatures = talk.agree("enrol", {"session": dataclasses.asdict(session)}, opening, range(len(self._roster)))
        if len(signatures) < len(self._roster):
            why = [f"{self._roster[s].name}: {reason}" for s, reason in sorted(talk.refusals.items())]
            raise RunError(f"{len(signatures)} of {len(self._roster)} sites joined. {'; '.join(why) or 'No answer.'}")
        self._run.keep(0, self._prior)
        self._journal.append(opening, signatures)

    def step(self, engine: Engine) -> None:
        """Run the next round, in as many attempts as the schedule allows."""
        number, failures = self.rounds_done + 1, []
        for _ in range(self._recipe.schedule.attempts):
            outcome = self._attempt(engine, number)
            if isinstance(outcome, Outcome):
                self._finish(number, outcome)
                return
            failures.append(outcome)
            if outcome.refusals and all("epsilon" in r for r in outcome.refusals.values()):
                raise BudgetExhausted(next(iter(outcome.refusals.values())))
        last = failures[-1]
        why = [f"{self._roster[s].name}: {reason}" for s, reason in sorted(last.refusals.items())]
        raise RunError(f"round {number} failed {len(failures)} times, last because {last.reason}. {'; '.join(why)}")

    def _attempt(self, engine: Engine, number: int) -> Outcome | Failed:
        opening = self._journal.opening
        if opening is None:
            raise RunError(f"{self._run.journal}: the record has no opening entry; run `commonprior audit`")
        begun = self._begun(number)
        session = self._session(number, len(begun), opening.run, self._journal.head)
        spent = self._with_another(session.length)
        self._check_budget(spent)
        self._note("begun", number, session.attempt)
        self._spent = spent
        noiseless = math.isinf(spent.epsilon(self._recipe.budget.delta))
        agreed = self._agreed(number) if noiseless else None
        return run_round(
            self._recipe, self._mechanism, self._prior, self._journal.last_record, session, engine, self._identity,
            self._public_spend(spent), range(len(self._roster)) if agreed is None else agreed,
            lambda seats: self._note("agreed", number, session.attempt, seats),
        )  # fmt: skip

    def _finish(self, number: int, outcome: Outcome) -> None:
        """Make the round's traces durable in the order in which a restart needs them."""
        write_whole(self._run.sum_of(number), outcome.total)
        self._run.keep(number, outcome.prior)
        self._journal.append(outcome.entry, outcome.signatures)
        self._prior, self._mechanism = outcome.prior, outcome.mechanism

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

    def _release(self, length: int) -> Release:
        schedule, n = self._recipe.schedule, len(self._roster)
        return Release(n, n - schedule.dropouts - schedule.colluders, length, schedule.tasks_per_site)

    def _with_another(self, length: int) -> Spend:
        """Return what the run has spent with one more release."""
        one = spend_of(self._mechanism.spends(self._release(length)), self._mechanism.unit)
        return one if self._spent is None else self._spent + one

    def _check_budget(self, spend: Spend) -> None:
        budget, epsilon = self._recipe.budget, spend.epsilon(self._recipe.budget.delta)
        if 0 < budget.epsilon < epsilon:
            before = self._spent.epsilon(budget.delta) if self._spent else 0.0
            raise BudgetExhausted(
                f"epsilon {before:.3g} of {budget.epsilon:.3g} is spent for a {self._mechanism.unit} at delta "
                f"{budget.delta:.0e} and another round would make it {epsilon:.3g}: the run ends after "
                f"{self.rounds_done} rounds with {budget.epsilon - before:.3g} left"
            )

    def _public_spend(self, spent: Spend) -> tuple[float, float]:
        delta = self._recipe.budget.delta
        epsilon = spent.epsilon(delta)
        return (NO_GUARANTEE if math.isinf(epsilon) else epsilon, delta)

    def _session(self, number: int, attempt: int, run: bytes, head: bytes) -> Session:
        schedule, roster = self._recipe.schedule, self._roster
        length = self._recipe.learner.length(self._prior)
        encoding = self._mechanism.encoding(self._release(length))
        return Session(
            run, number, attempt, self._prior.hash(), self._recipe.hash(), head, self._identity.key, roster,
            schedule.dropouts, schedule.colluders, length, encoding,
        )  # fmt: skip


@dataclass
class Training:
    """A run in this process: its folder, family, sites and coordinator."""

    recipe: Recipe
    family: Family
    run: RunFolder
    agents: list[Agent]
    engine: Metered
    coordinator: Coordinator

    def learned(self) -> LearnedPrior:
        """Return the prior of the last finished round, ready to adapt."""
        return LearnedPrior(self.recipe.learner, self.coordinator.prior, self.family.spec)


def start(recipe: Recipe, folder: Path, data: Path | None = None) -> Training:
    """Claim a folder for a run, or take one up again where it was left."""
    family = recipe.tasks.load(data)
    run = RunFolder(folder)
    run.begin(recipe, family)
    identity = load_or_make_identity(folder / "coordinator" / "identity.json")
    agents = simulate_sites(recipe, family, run, identity)
    roster = tuple(Member(agent.name, agent.identity.key) for agent in agents)
    engine = Metered(InProcess({seat: agent.receive for seat, agent in enumerate(agents)}))
    coordinator = Coordinator(recipe, run, identity, roster)
    coordinator.open(engine, family)
    return Training(recipe, family, run, agents, engine, coordinator)


def train(recipe: Recipe, folder: Path, data: Path | None = None, watch: Watch | None = None) -> LearnedPrior:
    """Train to the end, or on from where the run was left; return the prior.

    Raises `BudgetExhausted` only where not even one round can be paid; otherwise the run ends with what it has.
    """
    training = start(recipe, folder, data)
    for number in range(training.coordinator.rounds_done + 1, recipe.schedule.rounds + 1):
        before = cost_of(training)
        try:
            training.coordinator.step(training.engine)
        except BudgetExhausted:
            if training.coordinator.rounds_done == 0:
                raise
            break
        after = cost_of(training)
        cost = {name: amount - before.get(name, 0.0) for name, amount in after.items()}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"round": number, **cost}) + "\n")
        if watch is not None:
            watch(number, training.coordinator.prior, cost)
    save_prior(training.coordinator.prior, training.run.prior)
    return training.learned()


def cost_of(training: Training) -> dict[str, float]:
    """Return what the run has cost in this process so far: seconds and bytes by phase, seconds at the sites by kind."""
    cost = dict(training.engine.cost)
    for agent in training.agents:
        for kind, seconds in {**agent.seconds, **getattr(agent.contributor, "seconds", {})}.items():
            cost[f"{kind}.seconds"] = cost.get(f"{kind}.seconds", 0.0) + seconds
    return cost
