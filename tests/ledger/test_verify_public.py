"""The standalone verifier on a chain of public deltas: the contract's means, computed anew from what was committed."""

import dataclasses
import shutil
from functools import partial

import pytest

from commonprior import canonical, entry
from commonprior.appendlog import AppendLog
from commonprior.identity import Identity
from commonprior.learners.maml import Maml
from commonprior.ledger import contract, embedded, public, transaction, verify
from commonprior.ledger.client import DIRECT, Terms
from commonprior.networks.mlp import Mlp
from commonprior.prior import load_prior
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Ledger, Recipe, Schedule
from commonprior.site.policy import Policy
from commonprior.sums.plain import Plain
from commonprior.tasks.nanothermal import Nanothermal
from commonprior.training import start, train_rounds
from ledger._consortium import LARGE_TERMS, Clock, consortium

TERMS = Terms(DIRECT, 9, 2, 600, 600, 3600, 10**6)


@pytest.fixture(scope="module")
def public_chain(tmp_path_factory):
    """A chain of 6 members with two rounds of public deltas in pages of 2; the means that the contract made of them."""
    path, clock, means = tmp_path_factory.mktemp("public") / "chain.cbor", Clock(), []
    made = consortium(6, TERMS, embedded.Embedded(path, clock), clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(public, "PAGE", 2)
        for taken in (0b111111, 0b110111):
            updates = made.updates(seed=taken)
            attempt = made.committed(updates)
            made.wait(600)
            row = bytes(9 * (taken >> i & 1) for i in range(6))
            rows = {m.address: row for m in made.members} | {made.members[0].address: b"\t" * 6}  # one likes them all
            ballots = partial(made.ballots, attempt, updates, scores=rows)
            receipts, *_ = made.finish(attempt, updates, ballots=ballots)
            means.append(made.mean(receipts[-1]))
    return path, means, made.members


def read_chain(path):
    chain = verify.Chain(verify.Voters())
    verify.take_all(path, "block", 1, chain.take)
    return chain


def test_public_deltas_have_the_mean_that_the_contract_made(public_chain):
    path, means, members = public_chain
    chain = read_chain(path)
    assert chain.means == means
    assert (chain.others, chain.members) == (14, [m.address for m in members])


def test_proposals_of_large_vectors_are_followed_but_not_averaged(tmp_path):
    clock = Clock()
    made = consortium(3, LARGE_TERMS, embedded.Embedded(tmp_path / "chain.cbor", clock), clock)
    for seed in range(2):
        made.round(made.updates(seed=seed))
    chain = read_chain(tmp_path / "chain.cbor")
    assert (chain.means, chain.proposals) == ([], 2)
    assert (chain.runs[made.run].rounds, chain.runs[made.run].prior) == made.head[:2]


def rewrite(path, change):
    """Write a file of records anew, each (number, record) passed through `change`; None leaves it out."""
    records = [canonical.decode(record) for record in AppendLog(path)]
    path.unlink()
    log = AppendLog(path)
    for number, record in enumerate(records):
        changed = change(number, record)
        if changed is not None:
            log.append(changed)


@pytest.mark.parametrize(("name", "change", "words"), [
    ("finalise", lambda v: v.__setitem__(7, [bytes(288), *v[7][1:]]), "is not what it committed to"),
    ("finalise", lambda v: v.__setitem__(8, v[8] ^ 1), "a ballot of nobody"),
    ("finalise", lambda v: v.__setitem__(1, bytes(32)), "a ballot of nobody"),
    ("finalise", lambda v: (v[10].pop(), v[11].pop()), None),
    ("finalise", lambda v: (v.__setitem__(10, v[10][:3]), v.__setitem__(11, v[11][:3])), "3 of 6 members"),
    ("finalise", lambda v: v[10].reverse(), "out of order"),
    ("finalise", lambda v: v[11].pop(), "lists of a call of finalise are of different lengths"),
    ("finalise", lambda v: v.__setitem__(3, [bytes(32), *v[3][1:]]), "do not go on from those of the page before"),
    ("page", lambda v: v.__setitem__(4, [v[4][1], v[4][0], *v[4][2:]]), "is not what it committed to"),
    ("page", lambda v: v.__setitem__(4, [v[4][0][:32], *v[4][1:]]), "an update of 32 numbers, expected 288"),
    ("commit", lambda v: v.__setitem__(1, bytes(32)), "is not what it committed to"),
    ("open", lambda v: v.__setitem__(0, bytes(32)), "was not begun"),
    ("begin", lambda v: v.__setitem__(0, bytes(32)), "a ballot of nobody"),
    ("begin", lambda v: v[4].__setitem__(1, 0), "without a size"),
], ids=range(14))  # fmt: skip
def test_public_rounds_that_do_not_follow_are_refused(name, change, words, public_chain, tmp_path):
    """The chain's owner writes a transaction that the contract would not have taken, and signs it."""
    path, _, members = public_chain
    shutil.copy(path, tmp_path / "chain.cbor")
    known, done = contract.artefact("Rounds").functions[name], []

    def forged(number, record):
        sent, sender = transaction.read_transaction(record["transaction"])
        if done or sent.to is None or sent.data[:4] != known.selector:
            return record
        done.append(number)
        arguments = verify.arguments(verify._CALLS[name], sent.data[4:])
        change(arguments)
        owner = next(m for m in members if m.address == sender)
        return {**record, "transaction": dataclasses.replace(sent, data=known.encode(arguments)).sign(owner)}

    rewrite(tmp_path / "chain.cbor", forged)
    if words is None:
        assert len(read_chain(tmp_path / "chain.cbor").means) == 2
    else:
        with pytest.raises(verify.Refused, match=words):
            read_chain(tmp_path / "chain.cbor")


def test_a_change_of_who_votes_is_not_passed_over(public_chain, tmp_path):
    path, _, members = public_chain
    shutil.copy(path, tmp_path / "chain.cbor")
    chain = embedded.Embedded(tmp_path / "chain.cbor", clock=lambda: 2_000_000)
    quorum = transaction.address_made(members[0].address, 1)
    chain.send(members[1], quorum, contract.artefact("Quorum").functions["leave"].encode(()))
    with pytest.raises(verify.Refused, match="the list of members changes"):
        read_chain(tmp_path / "chain.cbor")


# A run whose journal is of public deltas


@pytest.fixture(scope="module")
def public_run(tmp_path_factory):
    """A finished run of two rounds of public deltas."""
    folder = tmp_path_factory.mktemp("public") / "run"
    recipe = Recipe(
        Nanothermal(), Maml(Mlp(widths=(8,)), inner_steps=1), DiscreteGaussian(clip=10.0, per="site", bytes=1), Plain(),
        Schedule(rounds=2, tasks_per_site=2, shots=5, queries=5), policy=Policy(allow_insecure_sum=True),
        ledger=Ledger(mode="public"),
    )  # fmt: skip
    train_rounds(start(recipe, folder))
    return folder


def test_a_run_of_public_deltas_holds(public_run):
    report = verify.verify(public_run)
    assert (report.rounds, len(report.means)) == (2, 2)
    assert report.prior == load_prior(public_run / "prior.safetensors").hash()
    assert "2 rounds of public deltas: commitments, Merkle roots, ballots" in report.checked[-1]


def test_a_run_of_public_deltas_whose_parts_differ_is_refused(public_run, tmp_path):
    sites = [Identity.load(next(f.rglob("identity.json"))) for f in sorted((public_run / "sites").iterdir())]

    def changed(number, record, **fields):
        data = canonical.encode({**canonical.decode(record["entry"]), **fields})
        signatures = [[i, s.sign(entry.statement_of(data))] for i, s in enumerate(sites)]
        return {**record, "entry": data, "signatures": signatures} if number == 2 else record

    def swapped(number, record):
        (a, one), (b, two), *rest = record["ballots"]
        return {**record, "ballots": [[a, two], [b, one], *rest]} if number == 2 else record

    for change, words in (
        (swapped, "does not hold what entry 2 of the journal says"),
        (lambda n, r: changed(n, r, survivors=[0, 1, 2]), "does not hold what entry 2 of the journal says"),
        (lambda n, r: changed(n, r, block=bytes(32)), "does not hold what entry 2 of the journal says"),
        (lambda n, r: changed(n, r, commitments=[bytes(32)] * 4), "sealed bytes, in a round of public deltas"),
        (lambda n, r: changed(n, r, survivors=[]), "0 contributors, expected at least"),
        (lambda n, r: changed(n, r), ""),
    ):
        folder = tmp_path / f"run {words} {len(list(tmp_path.iterdir()))}"
        shutil.copytree(public_run, folder, ignore=shutil.ignore_patterns("sites", "sums"))
        rewrite(folder / "journal.cbor", change)
        if words:
            with pytest.raises(verify.Refused, match=words):
                verify.verify(folder)
        else:
            assert verify.verify(folder).rounds == 2


@pytest.mark.parametrize(("at", "words"), [(9, "is not the Registry of this version"), (-1, "knows other contracts")])
def test_contracts_of_other_code_or_with_other_links_are_refused(at, words, public_chain, tmp_path):
    path, _, members = public_chain
    shutil.copy(path, tmp_path / "chain.cbor")

    def forged(number, record):
        sent, _ = transaction.read_transaction(record["transaction"])
        data = bytearray(sent.data)
        data[at] ^= 1
        made = dataclasses.replace(sent, data=bytes(data)).sign(members[0])
        return {**record, "transaction": made} if number == 2 else record

    rewrite(tmp_path / "chain.cbor", forged)
    with pytest.raises(verify.Refused, match=words):
        read_chain(tmp_path / "chain.cbor")
