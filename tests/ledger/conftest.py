"""Runs of public deltas, for the tests of their rounds and of attacks on them."""

import pytest

from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Ledger
from commonprior.site.policy import Policy
from commonprior.sums.plain import Plain

INT8 = DiscreteGaussian(clip=10.0, per="site", bytes=1, bound=1.0)


@pytest.fixture
def public_recipe(make_recipe):
    def make(**parts):
        parts = {
            "sites": 6, "mechanism": INT8, "sum": Plain(), "ledger": Ledger(mode="public"),
            "policy": Policy(minimum_cohort=3, allow_insecure_sum=True), **parts,
        }  # fmt: skip
        return make_recipe(**parts)

    return make
