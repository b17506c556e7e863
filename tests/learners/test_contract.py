"""Every learner in the folder keeps the contract (see conftest.py), in the settings that differ in kind."""

import dataclasses
import typing

import pytest

from commonprior import learners
from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.plugin import kinds, load

FAST = ServerStep(rate=0.02)
SITE = LocalWork(steps=2, optimiser="adam", rate=0.02)
SETTINGS = {
    "maml": {
        "one step": {"inner_steps": 1, "inner_rate": 0.05, "server": FAST},
        "first order": {"first_order": True, "server": FAST},
        "anil": {"adapts": ("head",), "server": FAST},
        "local steps": {"local": SITE, "server": ServerStep("mean", 1.0)},
    },
    "reptile": {"mean": {"inner_rate": 0.03, "server": ServerStep("mean", 0.3)}},
    "dkt": {
        "predictive": {"server": FAST},
        "marginal": {"objective": "marginal", "server": FAST},
        "deep alone": {"terms": ("deep",), "server": ServerStep("momentum", 0.5)},
    },
}


def learner_of(kind, settings):
    """Build a learner; whatever it wants a network for is small."""
    cls = load(learners, Learner, kind)
    hints = typing.get_type_hints(cls)
    networks = {f.name: Mlp((8,), "tanh") for f in dataclasses.fields(cls) if hints[f.name] is Network}
    return cls(**networks, **settings)


LEARNERS = [
    pytest.param(kind, settings, id=f"{kind}-{name}")
    for kind in kinds(learners)
    for name, settings in SETTINGS.get(kind, {"as it comes": {}}).items()
]


def test_there_is_something_to_check():
    assert {"maml", "reptile", "dkt"} <= set(kinds(learners))
    assert len(LEARNERS) >= len(kinds(learners))


@pytest.mark.parametrize(("kind", "settings"), LEARNERS)
def test_keeps_the_contract(check, kind, settings):
    check(learner_of(kind, settings))
