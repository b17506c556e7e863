"""Every learner in the folder keeps the contract (see conftest.py), in the settings that differ in kind."""

import dataclasses
import typing

import pytest

from commonprior import learners
from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
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
    "meta_sgd": {
        "a rate a parameter": {"speed": 1.0, "server": FAST},
        "a rate a layer": {"per": "layer", "inner_steps": 3, "speed": 1.0, "server": FAST},
    },
    "imaml": {
        "all": {"server": FAST},
        "head": {"adapts": ("head",), "server": FAST},
    },
    "dkt": {
        "predictive": {"server": FAST},
        "marginal": {"objective": "marginal", "server": FAST},
        "deep alone": {"terms": ("deep",), "server": ServerStep("momentum", 0.5)},
    },
    "adkf": {"every term": {"features": 8, "server": FAST}},
    "alpaca": {"as it comes": {"features": 8, "server": FAST}},
    "probe": {
        "ridge": {"features": 8, "server": FAST},
        "quadratic": {"head": "quadratic", "features": 4, "teaches": "pooled", "server": FAST},
        "gp": {"head": "gp", "features": 8, "server": FAST},
    },
    "pacoh": {"particles": {"particles": 3, "features": 4, "server": FAST}},
    "evolution": {
        "descent": {"server": FAST},
        "search": {"inner": "search", "inner_steps": 8, "server": FAST},
    },
    "genetic": {"as it comes": {}},
    "population": {"a small one": {"members": 4, "interval": 5}},
    "ensemble": {"two of them": {"members": 2}},
    "architecture": {"two widths": {"layers": 1, "widths": (4, 8), "server": FAST}},
    "protonet": {
        "euclidean": {"features": 6, "server": FAST},
        "mahalanobis": {"features": 4, "distance": "mahalanobis", "server": FAST},
    },
    "matching": {"cosines": {"features": 6, "server": FAST}},
    "memory_augmented": {"two reads": {"features": 8, "slots": 24, "lasting": 3, "server": FAST}},
    "neural_process": {
        "attentive": {"features": 8, "heads": 2, "server": FAST},
        "latent": {"features": 8, "heads": 2, "latent": 3, "draws": 4, "server": FAST},
    },
    "in_context": {"one block": {"width": 16, "heads": 2, "blocks": 1, "server": FAST}},
}


def learner_of(kind, settings):
    """Build a learner; whatever it wants a network for is small."""
    cls = load(learners, Learner, kind)
    hints = typing.get_type_hints(cls)
    networks = {f.name: Mlp((8,), "tanh") for f in dataclasses.fields(cls) if hints[f.name] is Network}
    others = {f.name: Maml(Mlp((8,), "tanh"), server=FAST) for f in dataclasses.fields(cls) if hints[f.name] is Learner}
    return cls(**networks, **others, **settings)


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
