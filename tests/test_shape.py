"""The doors through which microcontrollers, spiking chips, other carriers and other protocols will come.

Each double is a stranger to the product, and each goes through the same round, journal and audit unchanged.
"""

import inspect

import jax
import numpy as np
import pytest

import doubles
from commonprior.ledger.audit import audit
from commonprior.prior import flatten
from commonprior.site.policy import Policy
from commonprior.sums.plain import Plain
from commonprior.training import train_rounds
from doubles import FrozenBody, Gateway, Hebbian, Leaky, PaperPrior, PaperTarget, ScoresOnly


def error_on(training, pools):
    """Mean squared error of the run's prior on some pools, from 5 samples."""
    learned, total = training.learned(), 0.0
    for i, pool in enumerate(pools):
        task = pool.episode(np.random.default_rng(i), 5, 20)
        adapted = learned.learner.adapt(learned.prior, task.support, jax.random.key(0))
        mean = learned.learner.predict(learned.prior, adapted, task.query.x, jax.random.key(1)).mean
        total += float(np.mean((np.asarray(mean) - task.query.y) ** 2))
    return total / len(pools)


@pytest.mark.parametrize("learner", [Hebbian(), FrozenBody(), ScoresOnly()], ids=lambda x: type(x).__name__)
def test_a_stranger_learns_through_the_same_round(learner, make_recipe, run_of):
    training = run_of(make_recipe(learner=learner, rounds=6, per="task", clip=5.0))
    held_out = training.family.test["t"]
    before = error_on(training, held_out)
    train_rounds(training)
    assert error_on(training, held_out) < 0.8 * before
    assert audit_numbers(training) == (6, 6)


def audit_numbers(training):
    """Rounds that hold, and priors recomputed, by an audit that knows the double (a recipe file could not name it)."""
    from commonprior.ledger import audit as module

    class Known(module._Audit):
        def _open(self, entry, data, signatures):
            super()._open(entry, data, signatures)
            self._recipe = training.recipe

    original, module._Audit = module._Audit, Known
    try:
        training.run.recipe.unlink()
        verdict = audit(training.run.path)
    finally:
        module._Audit = original
    return verdict.rounds, verdict.recomputed


def test_packets_of_devices_come_in_through_a_gateway(make_recipe, run_of):
    training = run_of(make_recipe(learner=PaperPrior(), rounds=1))
    for site, agent in enumerate(training.agents):
        slope = 2.0 + site
        packet = PaperTarget().adapt(training.coordinator.prior, [(1.0, slope), (-2.0, -2 * slope)])
        agent.contributor = Gateway([packet])
    train_rounds(training)
    assert training.coordinator.prior.params["w"].ravel() == pytest.approx([3.5, 0.0], abs=1e-5)


def test_another_sum_gives_the_same_prior_bit_for_bit(make_recipe, run_of):
    runs = [run_of(make_recipe(**part), name) for name, part in {
        "masked": {}, "leaky": {"sum": Leaky()},
        "plain": {"sum": Plain(), "policy": Policy(allow_insecure_sum=True)},
    }.items()]  # fmt: skip
    for training in runs:
        train_rounds(training)
    hashes = {training.coordinator.prior.hash() for training in runs}
    assert len(hashes) == 1
    assert flatten(runs[0].coordinator.prior.params).any()


def test_an_engine_that_loses_every_third_message_changes_nothing(make_recipe, run_of):
    calm = run_of(make_recipe(), "calm")
    lossy = run_of(make_recipe(), "lossy", lost=lambda seat, phase, count: count % 3 == 0)
    for training in (calm, lossy):
        train_rounds(training)
    assert lossy.coordinator.prior.hash() == calm.coordinator.prior.hash()
    assert lossy.engine.engine.carried > calm.engine.engine.carried


def test_an_engine_that_repeats_and_reorders_changes_nothing(make_recipe, run_of):
    calm, wild = run_of(make_recipe(), "calm"), run_of(make_recipe(), "wild")
    carrier = wild.engine.engine

    class Wild:
        def exchange(self, session, phase, outbox, deadline):
            answers = carrier.exchange(session, phase, {s: [*f, *f] for s, f in outbox.items()}, deadline)
            return {seat: list(reversed([*frames, *frames])) for seat, frames in reversed(answers.items())}

    wild.engine.engine = Wild()
    for training in (calm, wild):
        train_rounds(training)
    assert wild.coordinator.prior.hash() == calm.coordinator.prior.hash()


@pytest.mark.parametrize("name", ["Hebbian", "FrozenBody", "ScoresOnly", "PaperTarget", "Gateway", "Leaky"])
def test_a_double_stays_small(name):
    """A door is a door only if little is needed to come through it."""
    assert len(inspect.getsource(getattr(doubles, name)).splitlines()) <= 40
