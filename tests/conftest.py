"""Small families and small runs that many tests share. Doubles live here and in the tests, never in the product."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import pytest

from commonprior import cli
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.task import Batch, Target, Task, TaskSpec
from commonprior.tasks import Family, TaskSource
from commonprior.training import start, train_rounds


@dataclass(frozen=True)
class LinePool:
    """y = slope · x + offset, with a site's own slopes: a family whose prior is worth having."""

    name: str
    slope: float
    offset: float
    size: int = 40

    def episode(self, rng, shots, queries):
        x = rng.uniform(-1, 1, (shots + queries, 1)).astype(np.float32)
        y = (self.slope * x[:, 0] + self.offset).astype(np.float32)
        ones = np.ones(shots + queries, np.float32)
        return Task(Batch(x[:shots], y[:shots], ones[:shots]), Batch(x[shots:], y[shots:], ones[shots:]))


@dataclass(frozen=True)
class Lines(TaskSource):
    sites: int = 4
    tasks: int = 3
    shift: float = 0.0

    def load(self, data):
        rng = np.random.default_rng(0)

        def pools(site):
            slopes = 2 + 0.3 * rng.normal(size=self.tasks) + self.shift
            return [LinePool(f"t{i}", float(slope), float(rng.normal())) for i, slope in enumerate(slopes)]

        names = [f"lab-{i}" for i in range(self.sites)]
        train = {name: pools(name) for name in names}
        spec = TaskSpec(Target(scaling="public"), shape=(1,))
        return Family(spec, train, {"v": pools("v")}, {"t": pools("t")}, "made up for a test")


@dataclass
class Switchboard:
    """An engine around another one, so that a test can cut lines: `lost(seat, phase, count)` loses an answer."""

    engine: object
    lost: object = lambda seat, phase, count: False
    carried: int = 0
    log: list = field(default_factory=list)

    def exchange(self, session, phase, outbox, deadline):
        answers = self.engine.exchange(session, phase, outbox, deadline)
        kept = {}
        for seat, frames in answers.items():
            for frame in frames:
                self.carried += 1
                self.log.append((phase, seat, frame))
                if not self.lost(seat, phase, self.carried):
                    kept.setdefault(seat, []).append(frame)
        return kept


MOST_MAPS = 20_000
"""Of the 65,530 memory maps that Linux gives a process: XLA crashes where it gets no more."""


@pytest.fixture(autouse=True)
def forget_programs():
    """Let go of compiled programs before they are too many: each takes memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def command(monkeypatch, capsys):
    """Run one command line in this process as `main` does; return (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["commonprior", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def make_recipe():
    """A recipe over lines, its parts replaced by keyword."""

    def make(sites=4, rounds=2, dropouts=0, noise=0.0, clip=10.0, per="site", **parts):
        schedule = parts.pop("schedule", Schedule(
            rounds=rounds, tasks_per_site=3, shots=5, queries=5, dropouts=dropouts, attempts=3))  # fmt: skip
        parts = {
            "tasks": Lines(sites), "learner": Maml(Mlp(widths=(8,)), inner_steps=1),
            "mechanism": DiscreteGaussian(clip=clip, noise=noise, per=per), "sum": Masked(),
            "policy": Policy(minimum_cohort=min(3, sites)), **parts,
        }  # fmt: skip
        return Recipe(schedule=schedule, **parts)

    return make


@pytest.fixture
def run_of(tmp_path):
    """Start a run in a fresh folder, its engine behind a switchboard."""

    def begin(recipe, name="run", lost=lambda seat, phase, count: False):
        training = start(recipe, tmp_path / name)
        training.engine.engine = Switchboard(training.engine.engine, lost)
        return training

    return begin


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run of three rounds of a recipe that a file could hold. Copy it before you touch it."""
    from commonprior.tasks.nanothermal import Nanothermal

    folder = tmp_path_factory.mktemp("finished") / "run"
    recipe = Recipe(
        Nanothermal(), Maml(Mlp(widths=(8,)), inner_steps=1), DiscreteGaussian(clip=10.0, per="site"), Masked(),
        Schedule(rounds=3, tasks_per_site=2, shots=5, queries=5),
    )  # fmt: skip
    train_rounds(start(recipe, folder))
    return folder
