"""The report of a sparse run beside what averaging every number in the open would move."""

import dataclasses
import re

from commonprior.learners.maml import Maml
from commonprior.monitor.run_report import report_run
from commonprior.networks.mlp import Mlp
from commonprior.privacy._sparsity import Sparsity
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sums.masked import Masked
from commonprior.tasks.nanothermal import Nanothermal
from commonprior.training import start, train_rounds


def said(folder):
    text = re.sub(r"<[^>]+>", "", report_run(folder).read_text())
    found = re.search(r"([\d.]+) (k?B|MB) up a site and round; float32 averaging: ([\d.]+) (k?B|MB)", text)
    assert "fewer than 2 · threshold" in text  # whom a site trusts
    unit = {"B": 1, "kB": 1e3, "MB": 1e6}
    return float(found[1]) * unit[found[2]], float(found[3]) * unit[found[4]]


def test_a_sparse_run_is_compared_with_all_of_its_update(tmp_path):
    mechanism = DiscreteGaussian(clip=10.0, per="site", bytes=2)
    dense = Recipe(Nanothermal(), Maml(Mlp(widths=(64, 64)), inner_steps=1), mechanism, Masked(),
                   Schedule(rounds=1, tasks_per_site=2, shots=5, queries=5))  # fmt: skip
    sparse = dataclasses.replace(dense, mechanism=dataclasses.replace(mechanism, sparsity=Sparsity(0.1)))
    moved = {}
    for name, recipe in {"dense": dense, "sparse": sparse}.items():
        training = start(recipe, tmp_path / name)
        train_rounds(training)
        moved[name] = said(tmp_path / name)
        length = recipe.learner.length(training.coordinator.prior)
        assert abs(moved[name][1] / (4 * length) - 1) < 0.01
    assert moved["dense"][0] - moved["sparse"][0] > 0.85 * 2 * length
    assert moved["dense"][0] < moved["dense"][1]
