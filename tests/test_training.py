"""Whole runs: equality with central training, kills at any moment, resumption, and folders that refuse to be mixed."""

import dataclasses
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from commonprior.errors import RunError
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.ledger.audit import audit
from commonprior.networks.mlp import Mlp
from commonprior.prior import Prior, flatten
from commonprior.recipe import read_recipe
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.site.policy import Policy
from commonprior.training import start, train, train_rounds

RECIPE = """
[tasks]
kind = "nanothermal"
[learner]
kind = "maml"
inner_steps = 1
network = { kind = "mlp", widths = [8] }
[mechanism]
kind = "discrete_gaussian"
clip = 5.0
per = "site"
[sum]
kind = "masked"
[schedule]
rounds = 12
tasks_per_site = 2
shots = 5
queries = 5
"""


def test_federated_training_equals_central_training_on_the_pooled_tasks(make_recipe, run_of):
    """One plain step a round: the mean over sites of means over tasks is the gradient of the pooled loss."""
    learner = Maml(
        Mlp(widths=(8,)), inner_steps=1, local=LocalWork(rate=1.0, clip=0.0), server=ServerStep(kind="mean", rate=0.05)
    )
    recipe = make_recipe(learner=learner, rounds=4, clip=1000.0)
    training = run_of(recipe)
    schedule, spec = recipe.schedule, training.family.spec
    prior = training.coordinator.prior
    for number in range(1, schedule.rounds + 1):
        drawn = [
            sample_tasks(pools, generator(schedule.seed, number, site, "tasks"), schedule.tasks_per_site,
                         schedule.shots, schedule.queries, spec.target)
            for site, pools in sorted(training.family.train.items())
        ]  # fmt: skip
        pooled = jax.tree.map(lambda *leaves: np.concatenate(leaves), *drawn)

        def loss(params, tasks=pooled):
            return jax.vmap(lambda task: learner.meta_loss(params, task))(tasks).mean()

        gradient = jax.jit(jax.grad(loss))({k: np.asarray(v) for k, v in prior.params.items()})
        prior = Prior({k: np.asarray(v - 0.05 * gradient[k], np.float32) for k, v in prior.params.items()})
    train_rounds(training)
    got, expected = flatten(training.coordinator.prior.params), flatten(prior.params)
    fixed_point = 2.0**-training.coordinator._journal.last_round.encoding.fraction
    assert np.abs(got - expected).max() < 4 * (fixed_point + 1e-6)
    assert np.abs(got - flatten(training.learned().learner.init(spec, learning_key(0, "init")).params)).max() > 0.01


def test_kill_minus_nine(tmp_path):
    """The real thing: the process is killed while it writes, and the same command ends with the same prior."""
    recipe, runs = tmp_path / "killed.toml", tmp_path / "runs"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "commonprior", "train", str(recipe), "--runs", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = runs / "killed" / "journal.cbor"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 8000):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (runs / "killed" / "prior.safetensors").exists(), "killed too late to prove anything"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "12/12" in done.stdout
    verdict = audit(runs / "killed")
    assert (verdict.rounds, verdict.recomputed) == (12, 12)
    assert train(read_recipe(recipe), tmp_path / "whole").prior.hash() == verdict.prior


class Killed(BaseException):
    """What a kill does to a process, where every write is a moment to be killed at."""


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_killed_at_every_write(noise, make_recipe, tmp_path, monkeypatch):
    """Die at the 1st, 2nd, … fsync of a run, before or after it; go on; end with the prior of a calm run."""
    recipe = make_recipe(sites=2, rounds=2, noise=noise, policy=Policy(minimum_cohort=2))
    calm = start(recipe, tmp_path / "calm")
    train_rounds(calm)
    once = calm.coordinator.figures().epsilon
    real, moment, deaths = os.fsync, 0, 0
    while True:
        moment += 1
        folder, count = tmp_path / f"killed-{moment}", 0

        def dying(handle, moment=moment):
            nonlocal count
            count += 1
            if count == moment and moment % 2:
                raise Killed
            real(handle)
            if count == moment:
                raise Killed

        monkeypatch.setattr(os, "fsync", dying)
        try:
            train_rounds(start(recipe, folder))
        except Killed:
            deaths += 1
        monkeypatch.setattr(os, "fsync", real)
        again = start(recipe, folder)
        train_rounds(again)
        verdict = audit_of(again)
        assert verdict.rounds == 2
        if noise:
            repeated = sum(entry.attempt for entry in again.coordinator._journal.entries[1:])
            assert verdict.epsilon >= once * (1 - 1e-9)
            assert (verdict.epsilon > once) == (repeated > 0), "a repeated release is charged again"
            for agent in again.agents:
                assert agent.log.spent_so_far("site").epsilon(1e-5) >= once * (1 - 1e-9)
        else:
            assert again.coordinator.prior.hash() == calm.coordinator.prior.hash(), f"killed at write {moment}"
        if count < moment:
            break
    assert deaths > 25


def audit_of(training):
    """The audit, which cannot build the recipe of a double from a file and so checks without recomputing."""
    return audit(training.run.path)


def test_the_same_command_on_a_finished_run_changes_nothing(make_recipe, tmp_path):
    recipe = make_recipe()
    first = train(recipe, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    again = train(recipe, tmp_path / "run")
    assert again.prior.hash() == first.prior.hash()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_another_recipe_or_other_data_under_the_same_name_is_refused_with_the_difference(make_recipe, run_of, tmp_path):
    recipe = make_recipe()
    train(recipe, tmp_path / "run")
    other = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, shots=7))
    with pytest.raises(RunError, match="another recipe .schedule.shots was 5, is 7.*take another --name"):
        start(other, tmp_path / "run")
    data = tmp_path / "run" / "data.json"
    data.write_text(data.read_text().replace('"train/lab-1": "', '"train/lab-1": "0'))
    with pytest.raises(RunError, match="the data of this run has changed .train/lab-1 was"):
        start(recipe, tmp_path / "run")


def test_a_full_disk_stops_the_run_and_loses_nothing(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe(rounds=4))
    training.coordinator.step(training.engine)
    before = training.run.journal.read_bytes()
    calls = []
    real = os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > 25:
            raise OSError(28, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        train_rounds(training)
    monkeypatch.undo()
    assert training.run.journal.read_bytes().startswith(before)
    again = start(training.recipe, training.run.path)
    train_rounds(again)
    assert again.coordinator.rounds_done == 4
    assert not list(training.run.path.rglob("*.partial"))


def test_every_site_keeps_its_own_folder_and_keys(finished_run):
    files = sorted(p.relative_to(finished_run).as_posix() for p in (finished_run / "sites").rglob("identity.json"))
    assert len(files) == 4
    for file in files:
        assert (finished_run / file).stat().st_mode & 0o777 == 0o600
