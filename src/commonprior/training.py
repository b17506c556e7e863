"""A whole run: open the record, go round after round, survive a kill at any moment, end with a prior."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from commonprior.contestants import curve_point
from commonprior.coordinator import Coordinator
from commonprior.engines import Engine, Outbox
from commonprior.engines.in_process import InProcess
from commonprior.errors import BudgetExhausted
from commonprior.ledger.book import Book, ChainRegistry, open_chain
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior, load_prior, save_prior
from commonprior.recipe import Recipe
from commonprior.runfolder import RunFolder
from commonprior.session import Member, Session
from commonprior.simulation import check_scaling, load_or_make_identity, simulate_sites
from commonprior.site.agent import Agent
from commonprior.tasks import Family

CURVE_POINTS = 20


class Report(NamedTuple):
    """What a round cost, by phase and measure, and now and then how each site does: (site, metric, value)."""

    round: int
    cost: dict[str, float]
    curve: list[tuple[str, str, float]]


Watch = Callable[[Report], None]
"""Called after each round."""


@dataclass
class Metered:
    """An engine that counts what another one carries: seconds, bytes up (from sites) and down, by phase."""

    engine: Engine
    cost: dict[str, float] = field(default_factory=dict[str, float])

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


def start(
    recipe: Recipe, folder: Path, data: Path | None = None, family: Family | None = None, first: Prior | None = None
) -> Training:
    """Claim a folder for a run, or take one up again where it was left.

    `family`: the tasks, if they have been loaded already; `first`: the prior that a new run starts from.
    """
    family = family or recipe.tasks.load(data)
    check_scaling(recipe, family.spec)
    run = RunFolder(folder)
    run.begin(recipe, family)
    identity = load_or_make_identity(folder / "coordinator" / "identity.json")
    chain = open_chain(recipe.ledger, run)
    registry = None if chain is None else ChainRegistry(chain)
    agents = simulate_sites(recipe, family, run, identity, registry)
    roster = tuple(Member(agent.name, agent.identity.key) for agent in agents)
    engine = Metered(InProcess({seat: agent.receive for seat, agent in enumerate(agents)}))
    accounts = tuple(agent.identity.address for agent in agents)
    book = None if chain is None else Book(chain, identity, accounts, run, recipe.ledger.defence)
    coordinator = Coordinator(recipe, run, identity, roster, book)
    coordinator.open(engine, family, first)
    return Training(recipe, family, run, agents, engine, coordinator)


def train(recipe: Recipe, folder: Path, data: Path | None = None, watch: Watch | None = None) -> LearnedPrior:
    """Train to the end, or on from where the run was left; return the prior.

    Where the privacy budget ends before the schedule does, the run ends with the rounds it could pay.
    """
    training = start(recipe, folder, data)
    train_rounds(training, watch)
    return training.learned()


def train_rounds(training: Training, watch: Watch | None = None) -> str:
    """Run what is left of the schedule and save the prior; return why it stopped early, or nothing."""
    coordinator, rounds, stopped = training.coordinator, training.recipe.schedule.rounds, ""
    for number in range(coordinator.rounds_done + 1, rounds + 1):
        before = cost_of(training)
        try:
            coordinator.step(training.engine)
        except BudgetExhausted as reason:
            if coordinator.rounds_done == 0:
                raise
            stopped = str(reason)
            break
        cost = {name: amount - before.get(name, 0.0) for name, amount in cost_of(training).items()}
        report = Report(number, cost, _curve(training, number))
        with training.run.metric_lines.open("a") as file:
            file.write(json.dumps(report._asdict()) + "\n")
        if watch is not None:
            watch(report)
    if not training.run.prior.exists() or load_prior(training.run.prior).hash() != coordinator.prior.hash():
        save_prior(coordinator.prior, training.run.prior)
    return stopped


def _curve(training: Training, number: int) -> list[tuple[str, str, float]]:
    """Return how each site does on its own tasks, about twenty times in a run."""
    schedule = training.recipe.schedule
    if number % max(1, schedule.rounds // CURVE_POINTS) and number not in (1, schedule.rounds):
        return []
    return curve_point(training.learned(), training.family.train, schedule.shots, schedule.queries, schedule.seed)


def cost_of(training: Training) -> dict[str, float]:
    """Return what the run has cost in this process so far: seconds and bytes by phase, seconds at the sites by kind."""
    cost = dict(training.engine.cost)
    for agent in training.agents:
        for kind, seconds in {**agent.seconds, **getattr(agent.contributor, "seconds", {})}.items():
            cost[f"{kind}.seconds"] = cost.get(f"{kind}.seconds", 0.0) + seconds
    return cost
