"""The plan against real rounds, simulated noise, closed forms and the command line."""

import dataclasses
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from commonprior import cli
from commonprior.errors import InputError
from commonprior.planning.cohort import cohort_of, size_of
from commonprior.planning.forecast import Forecast, best, forecast, protocols
from commonprior.planning.network import Network, networks, read_network
from commonprior.planning.privacy import noise_to_signal, promise_of
from commonprior.planning.speed import measure, seconds
from commonprior.prior import Contributions
from commonprior.privacy import Release
from commonprior.privacy._sparsity import Sparsity
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Budget
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain
from commonprior.training import start, train_rounds
from commonprior.work import Operation, Phase, Role, Work

EXAMPLE = Path(__file__).parents[2] / "examples" / "nanothermal.toml"
WIRE = Network("wire", up=8e3, down=16e3, round_trip=0.5, coordinator=80e3, sources=())


class Clock(dict):
    """Every operation takes a millisecond."""

    def __missing__(self, operation):
        return 1e-3


@pytest.mark.parametrize("kind", [Masked(), Committee(), Plain()], ids=["masked", "committee", "plain"])
def test_bytes_are_those_of_a_real_round(kind, make_recipe, tmp_path):
    policy = dataclasses.replace(make_recipe().policy, allow_insecure_sum=True)
    mechanism = DiscreteGaussian(clip=10.0, per="site", bytes=2)
    recipe = make_recipe(sites=5, rounds=8, sum=kind, mechanism=mechanism, policy=policy)
    training = start(recipe, tmp_path / "run")
    training.engine.cost.clear()
    train_rounds(training)
    cost = training.engine.cost
    cohort = cohort_of(recipe, size_of(recipe, None, 0, 0))
    found = next(one for one in protocols(recipe, cohort) if one.sum == kind)
    planned = forecast(found, cohort, WIRE, Clock())
    up, down = (sum(v for name, v in cost.items() if name.endswith(way)) / 8 for way in (".up", ".down"))
    assert planned.all_up == pytest.approx(up, rel=0.04)
    if not isinstance(kind, Committee):
        assert 5 * planned.down == pytest.approx(down, rel=0.04)


@pytest.mark.parametrize(("per", "keep"), [("site", 1.0), ("task", 1.0), ("site", 0.25)])
def test_noise_to_signal_is_that_of_simulated_noise(per, keep):
    mechanism = DiscreteGaussian(clip=2.0, noise=3.0, per=per, sparsity=Sparsity(keep) if keep < 1 else None)
    release = Release(parties=6, honest=4, length=4000, rows=3)
    encoding, blank = mechanism.encoding(release), np.zeros((1 if per == "site" else 3, 4000))
    total = sum(
        mechanism.protect(Contributions(blank, per), encoding, release, {}, jax.random.key(seat), os.urandom)[0]
        for seat in range(6)
    )
    mean = mechanism.mean(total, encoding, release, 6)
    assert noise_to_signal(mechanism, release) == pytest.approx(np.linalg.norm(mean) / 2.0, rel=0.06)


def test_enough_sites_are_the_fewest(make_recipe):
    recipe = make_recipe(noise=2.0, dropouts=3)
    enough = promise_of(recipe, cohort_of(recipe, size_of(recipe, None, 40, 900))).enough
    ratios = {n: noise_to_signal(recipe.mechanism, Release(n, n - 3, 900, 3)) for n in range(7, 200)}
    assert enough == min(n for n, ratio in ratios.items() if ratio <= 1)
    assert 60 < enough < 65


def test_needed_noise_gives_the_epsilon_that_was_asked_for(make_recipe):
    recipe = dataclasses.replace(make_recipe(noise=1.0, rounds=20), budget=Budget(epsilon=3.0))
    promise = promise_of(recipe, cohort_of(recipe, size_of(recipe, None, 8, 50)))
    (need,) = promise.needed
    calm = dataclasses.replace(recipe, mechanism=dataclasses.replace(recipe.mechanism, noise=need.noise))
    reached = promise_of(calm, cohort_of(calm, size_of(calm, None, 8, 50)))
    assert 0.98 * 3 < reached.a_run <= 3
    assert reached.affordable == 20
    assert promise.a_round < promise.a_run < promise.a_record
    assert promise.affordable < 20


def test_without_noise_there_is_no_promise(make_recipe):
    recipe = make_recipe()
    promise = promise_of(recipe, cohort_of(recipe, size_of(recipe, None, 0, 0)))
    assert (promise.a_round, promise.a_run, promise.a_record, promise.ratio) == (None, None, None, 0)
    assert math.isinf(promise.affordable)


def test_seconds_over_a_network_by_hand(make_recipe):
    recipe = make_recipe(sites=4)
    cohort = cohort_of(recipe, size_of(recipe, None, 0, 0))
    tick = Operation("tick", lambda: lambda: None)
    busy = Role(1, {tick: 300}, 500, 100)
    calm = Role(3, {tick: 100}, 200, 1000)
    work = Work((Phase("only", (busy, calm), {tick: 50}, {tick: 10}),), "", False)
    bare = forecast(Forecast("x", Masked(), Work((), "", False)), cohort, WIRE, Clock())
    whole = forecast(Forecast("x", Masked(), work), cohort, WIRE, Clock())
    # All 3,100 bytes down and 1,100 up pass the coordinator's 10 kB/s; a site has 2 kB/s down and 1 kB/s up.
    by_busy = max(100 / 2e3, 3100 / 1e4) + max(500 / 1e3, 1100 / 1e4) + 0.310
    by_calm = max(1000 / 2e3, 3100 / 1e4) + max(200 / 1e3, 1100 / 1e4) + 0.110
    assert whole.seconds - bare.seconds == pytest.approx(0.5 + max(by_busy, by_calm) + 0.05)
    assert whole.here - bare.here == pytest.approx(0.3 + 3 * 0.1 + 0.05 + 0.01)
    assert (whole.up - bare.up, whole.down - bare.down) == pytest.approx((500, 1000))


def test_speed_is_that_of_what_is_done():
    slow = Operation("slow", lambda: lambda: sum(range(2000)), 1)
    tenth = Operation("tenth", lambda: lambda: sum(range(2000)), 10)
    speed = measure([slow, tenth])
    assert speed[slow] / speed[tenth] == pytest.approx(10, rel=0.6)
    assert seconds({slow: 3, tenth: 2}, speed) == 3 * speed[slow] + 2 * speed[tenth]


def fitting(name, seconds, reader="", is_checked=False, kind=None):
    return Forecast(name, kind or Masked(), Work((), reader, is_checked), "", seconds, up=10.0)


@pytest.mark.parametrize(("found", "chosen", "why"), [
    ([fitting("a", 2.0), fitting("b", 1.0)], "b", "no other such sum is faster"),
    ([fitting("a", 1.5, is_checked=True), fitting("b", 1.0)], "a", "a wrong sum is noticed, for 1.5 times"),
    ([fitting("a", 2.5, is_checked=True), fitting("b", 1.0)], "b", "no other such sum"),
    ([fitting("a", 0.1, "the key holder"), fitting("b", 1.0)], "b", "nobody can read"),
    ([fitting("a", 0.1, "the key holder")], "a", "the key holder could read"),
    ([fitting("a", 0.1, "the coordinator", kind=Plain())], None, "no secure sum fits"),
    ([Forecast("a", Masked(), None, "too few")], None, "the table says why"),
], ids=range(7))  # fmt: skip
def test_advice(found, chosen, why):
    advice, reason = best(found)
    assert (advice.name if advice else None) == chosen
    assert why in reason


def test_networks_are_cited():
    assert networks() == ["lan", "lte", "wan"]
    for name in networks():
        network = read_network(name)
        said = " ".join(network.sources)
        assert all(figure in said for figure in ("up", "down", "round_trip", "coordinator")), name
        assert min(network.up, network.down, network.coordinator) > 1e6
        assert 0 < network.round_trip < 1


@pytest.fixture
def run(monkeypatch, command):
    """Run `commonprior plan` in this process, 80 columns wide; return (exit code, stdout, stderr)."""
    monkeypatch.setattr(cli.console, "_width", 80)
    monkeypatch.delenv("COMMONPRIOR_DATA", raising=False)
    return lambda *arguments: command("plan", *arguments)


def test_a_plan_without_data_is_complete_and_80_columns_wide(tmp_path, run):
    path = tmp_path / "r.toml"
    path.write_text(
        EXAMPLE.read_text().replace('kind = "nanothermal"', 'kind = "lnpdb"').replace("noise = 0.0", "noise = 1.5")
        + "dropouts = 2\n\n[budget]\nepsilon = 8.0\n"
    )
    code, out, err = run(path, "--sites", 60, "--parameters", 2000, "--network", "lte", "--json", tmp_path / "p.json")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    table = json.loads((tmp_path / "p.json").read_text())
    names = [row["name"] for row in table["protocols"]]
    assert {"plain", "masked, all", "committee", "paillier", "ckks"} <= set(names)
    assert any(name.startswith("masked, k=") for name in names)
    for row in table["protocols"]:
        assert row["refusal"] or row["seconds"] > row["round_trips"] * 0.07
        assert row["trust"] or row["refusal"]
    assert table["committee"]["tolerates"][0] == {"dropouts": 0, "named": 2, "detected": 2}
    said = " ".join(out.split())
    for sentence in ("Any 2 sites may be gone", "Advice: ", "No amplification by sampling is claimed", "it works from",
                     "6 Mbit/s up", "60 sites", "ε 8 takes noise", "record"):  # fmt: skip
        assert sentence in said, sentence
    sources = " ".join(table["network"]["sources"])
    assert "4G LTE Networks" in sources


@pytest.mark.parametrize(("arguments", "change", "sentence"), [
    (("--network", "moon"), "", "--network 'moon': expected lan, lte, wan"),
    (("--sites", 1), "", "--sites 1: expected 2 to"),
    (("--sites", -3), "", "--sites -3: expected 2 to"),
    (("--parameters", -1), "", "--parameters -1: expected 1 to"),
    (("--sites", 3), "dropouts = 2", "3 sites, 2 dropouts and 0 colluders do not go together"),
    (("--sites", 3), "dropouts = 3", "3 sites, 3 dropouts and 0 colluders do not go together"),
    (("--sites", 3), "lnpdb", "without the tasks, say --parameters D"),
    ((), "lnpdb", "without the tasks, say --sites N and --parameters D"),
], ids=range(8))  # fmt: skip
def test_a_plan_that_cannot_be_is_one_sentence(arguments, change, sentence, tmp_path, run):
    path = tmp_path / "r.toml"
    text = EXAMPLE.read_text()
    path.write_text(text.replace('"nanothermal"', '"lnpdb"') if change == "lnpdb" else f"{text}\n{change}\n")
    code, out, err = run(path, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_an_unknown_network_is_refused_in_python_too():
    with pytest.raises(InputError, match="expected lan"):
        read_network("../lan")
