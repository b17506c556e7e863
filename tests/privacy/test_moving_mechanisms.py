"""Whole runs whose mechanism moves: every site, a site that missed rounds, a restart and an auditor agree on it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from commonprior.errors import JournalError, RunError
from commonprior.learners.maml import Maml
from commonprior.ledger.audit import audit
from commonprior.networks.mlp import Mlp
from commonprior.prior import load_prior, save_prior
from commonprior.privacy._adaptive import AdaptiveClip
from commonprior.privacy._sparsity import Sparsity
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam
from commonprior.recipe import Recipe, Schedule, read_recipe, to_toml
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.tasks.nanothermal import Nanothermal
from commonprior.training import start, train_rounds

MOVING = DiscreteGaussian(
    0.01, per="site", bytes=2, feedback=True, sparsity=Sparsity(0.3), adaptive=AdaptiveClip(rate=1.0, largest=50.0)
)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A finished run of three noised rounds of a recipe that a file could hold."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    recipe = Recipe(
        Nanothermal(), Maml(Mlp(widths=(8,)), inner_steps=1),
        Skellam(0.01, 0.5, per="site", bytes=2, sparsity=Sparsity(0.5), adaptive=AdaptiveClip(rate=1.0, share=0.3)),
        Masked(), Schedule(rounds=3, tasks_per_site=2, shots=5, queries=5),
    )  # fmt: skip
    train_rounds(start(recipe, folder))
    return folder


def state_of(training):
    return {name: float(value[0]) for name, value in training.coordinator.prior.state.items() if "mechanism" in name}


def test_a_run_learns_with_a_clip_that_moves_and_few_coordinates(make_recipe, run_of):
    training = run_of(make_recipe(mechanism=MOVING, rounds=5))
    train_rounds(training)
    rounds = training.coordinator._journal.entries[1:]
    assert {entry.length for entry in rounds} == {
        MOVING.width(training.recipe.learner.length(training.coordinator.prior))
    }
    assert len({entry.encoding.fraction for entry in rounds}) > 1, "the encoding follows the clip"
    state = state_of(training)
    assert state["mechanism/round"] == 5
    assert state["mechanism/clip"] > 0.012
    first = load_prior(training.run.checkpoint(0))
    changed = [np.mean(first.params[n] != v) for n, v in training.coordinator.prior.params.items() if v.size > 4]
    assert max(changed) > 0.5, "in time every coordinate moves"
    assert training.agents[0].log.recall(5)["mechanism/residual"].any()


def test_a_restart_after_every_round_ends_with_the_same_prior(make_recipe, run_of, tmp_path):
    recipe = make_recipe(mechanism=MOVING, rounds=4)
    calm = run_of(recipe, "calm")
    train_rounds(calm)
    for _ in range(4):
        training = start(recipe, tmp_path / "restarted")
        training.coordinator.step(training.engine)
    again = start(recipe, tmp_path / "restarted")
    assert again.coordinator.prior.hash() == calm.coordinator.prior.hash()
    assert again.coordinator._mechanism == calm.coordinator._mechanism


def test_a_restart_counts_what_each_round_cost_with_the_clip_it_had(make_recipe, run_of):
    # Two bytes are so coarse that the cost depends on the clip a little: a replay by another clip would show.
    mechanism = dataclasses.replace(MOVING, noise=0.5, feedback=False)
    recipe = make_recipe(mechanism=mechanism, rounds=4)
    training = run_of(recipe)
    train_rounds(training)
    assert start(recipe, training.run.path).coordinator._spent == training.coordinator._spent
    training.run.sum_of(2).unlink()
    with pytest.raises(RunError, match=r"000002.bin: is missing.*the mechanism of round 3 follows from it"):
        start(recipe, training.run.path)


@pytest.mark.parametrize("phase", ["acknowledge", "masked"])
def test_a_site_that_missed_a_round_comes_back(phase, make_recipe, run_of):
    """It missed the sum of round 1; the clip and the pattern of round 2 are in the prior that its peers signed."""
    lost = []
    training = run_of(make_recipe(mechanism=MOVING, rounds=3, dropouts=1))

    def deaf(frame, receive=training.agents[2].receive):
        return [] if lost and phase == "acknowledge" else receive(frame)

    carrier = training.engine.engine
    carrier.engine = dataclasses.replace(carrier.engine, endpoints={**carrier.engine.endpoints, 2: deaf})
    if phase == "masked":
        carrier.lost = lambda seat, at, count: seat == 2 and at in ("masked", "consistency", "unmask", "acknowledge")
    else:
        carrier.lost = lambda seat, at, count: bool(at == "unmask" and lost.append(at))
    training.coordinator.step(training.engine)
    assert training.agents[2].log.last_finished() == (0 if phase == "acknowledge" else 1)
    lost.clear()
    carrier.lost = lambda seat, at, count: False
    train_rounds(training)
    assert training.coordinator._journal.last_round.survivors == (0, 1, 2, 3)
    assert training.agents[2].log.last_finished() == 3


def test_a_round_that_is_repeated_is_encoded_as_it_was(make_recipe, run_of, tmp_path):
    """Every site has signed round 1, but the record is lost: the round is run again from the same mechanism."""
    recipe = make_recipe(mechanism=MOVING, rounds=2)
    training = run_of(recipe)
    training.coordinator._finish = lambda number, outcome: None
    training.coordinator.step(training.engine)
    del training.coordinator._finish
    train_rounds(training)
    assert training.coordinator._journal.entries[1].attempt == 1
    assert state_of(training)["mechanism/round"] == 2


def test_a_clip_over_the_sites_own_limit_is_refused_in_the_round_that_has_it(make_recipe, run_of):
    training = run_of(make_recipe(mechanism=MOVING, rounds=9, policy=Policy(maximum_clip=0.02)))
    with pytest.raises(RunError, match=r"allows a clip of at most 0.02, the round has 0\.0[2-9]"):
        train_rounds(training)
    assert training.coordinator.rounds_done >= 1


def test_a_first_prior_that_brings_a_clip_of_its_own_is_refused(make_recipe, run_of, monkeypatch):
    init = Maml.init

    def loaded(self, spec, key):
        return init(self, spec, key).with_state({"mechanism/clip": np.full(1, 40.0, np.float32)})

    monkeypatch.setattr(Maml, "init", loaded)
    training = run_of(make_recipe(mechanism=MOVING))
    with pytest.raises(RunError, match="the first prior moves the mechanism"):
        training.coordinator.step(training.engine)
    training.coordinator._mechanism = training.coordinator._mechanism.resume(training.coordinator.prior.state)
    with pytest.raises(RunError, match="the first prior moves the mechanism"):
        training.coordinator.step(training.engine)


def test_an_audit_recomputes_clip_pattern_prior_and_cost(moved):
    verdict = audit(moved)
    assert (verdict.rounds, verdict.recomputed) == (3, 3)
    assert 0 < verdict.epsilon < 100
    state = load_prior(moved / "prior.safetensors").state
    assert state["mechanism/round"].tolist() == [3.0]
    assert state["mechanism/clip"][0] not in (0.0, np.float32(0.01))
    recipe = read_recipe(moved / "recipe.toml")
    assert read_toml_again(recipe, moved) == recipe


def read_toml_again(recipe, folder):
    path = folder.parent / "again.toml"
    path.write_text(to_toml(recipe))
    return read_recipe(path)


def test_an_audit_without_the_sums_checks_signatures_alone(moved, tmp_path):
    shutil.copytree(moved, tmp_path / "run")
    for file in (tmp_path / "run" / "sums").iterdir():
        file.unlink()
    assert audit(tmp_path / "run").recomputed == 0


def test_an_audit_finds_a_first_prior_that_moves_the_mechanism(moved, tmp_path):
    shutil.copytree(moved, tmp_path / "run")
    first = tmp_path / "run" / "checkpoints" / "000000.safetensors"
    save_prior(load_prior(first).with_state({"mechanism/clip": np.ones(1, np.float32)}), first)
    with pytest.raises(JournalError, match="not the prior that the sites started from"):
        audit(tmp_path / "run")


def test_the_wire_carries_two_bytes_for_three_numbers_in_ten(make_recipe, run_of):
    costs = {}
    for name, mechanism in (("small", dataclasses.replace(MOVING, adaptive=None, clip=5.0)),
                            ("whole", DiscreteGaussian(5.0, per="site", bytes=4))):  # fmt: skip
        training = run_of(
            make_recipe(mechanism=mechanism, rounds=1, learner=Maml(Mlp(widths=(1500,)), inner_steps=1)), name
        )
        train_rounds(training)
        lines = (training.run.metric_lines).read_text().splitlines()
        costs[name] = json.loads(lines[0])["cost"]["masked.up"]
        length = training.recipe.learner.length(training.coordinator.prior)
    assert length > 4000
    saved = costs["whole"] - costs["small"]
    assert saved == pytest.approx(4 * (4 * length - 2 * 0.3 * length), rel=0.02)
