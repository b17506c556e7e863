"""Attacks on bonds: who showed nothing or voted twice pays, once and no more; nobody makes the innocent pay."""

import dataclasses

import pytest
from eth_hash.auto import keccak

from ._consortium import BOND, DEPOSIT, consortium, identity, refused, votes_of, word


def test_attack_the_bonds_of_the_innocent_are_not_forfeited():
    made = consortium(3)
    attempt, updates, _, _, taken, ballots = made.round()
    names, taken, weights, scores = made.seal_of(attempt, updates, taken, ballots)
    votes = votes_of(weights, scores)
    for m in made.members:
        with refused("D: contributed"):
            made.forfeit(attempt, m, names, taken, votes)
        with refused("D: seal"):
            made.forfeit(attempt, m, [n for n in names if n != m.address], taken, votes)
    with refused("D: no commitment"):
        made.forfeit(attempt, identity("stranger"), names, taken, votes)
    following = made.committed(made.updates())
    with refused("D: not over"):
        made.forfeit(following, made.members[0])
    assert all(made.deposit_of(m) == DEPOSIT for m in made.members)


def test_attack_one_who_showed_nothing_loses_its_bond_and_no_more():
    made = consortium(3)
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(1200)
    _, _, taken, ballots = made.finish(attempt, updates[:2])
    names, taken, weights, scores = made.seal_of(attempt, updates[:2], taken, ballots)
    made.forfeit(attempt, made.members[2], names, taken, votes_of(weights, scores), sender=1)
    assert made.deposit_of(made.members[2]) == DEPOSIT - BOND
    assert made.read("Rewards", "pots", made.run) == BOND
    assert made.read("Token", "balanceOf", made.contracts.address("Rewards")) == BOND
    with refused("D: twice"):
        made.forfeit(attempt, made.members[2], names, taken, votes_of(weights, scores))


def test_attack_asking_a_deposit_back_before_being_slashed_saves_nothing():
    made = consortium(3)
    updates = made.updates()
    attempt = made.committed(updates)
    guilty = made.members[2]
    made.write(guilty, "Quorum", "request", DEPOSIT)
    made.wait(1200)
    _, _, taken, ballots = made.finish(attempt, updates[:2])
    names, taken, weights, scores = made.seal_of(attempt, updates[:2], taken, ballots)
    made.wait(4 * (3600 + 1200) // 2)
    with refused("Q: notice"):
        made.write(guilty, "Quorum", "withdraw")
    made.forfeit(attempt, guilty, names, taken, votes_of(weights, scores))
    assert made.read("Quorum", "notices", guilty.address)[0] == DEPOSIT - BOND


def two_ballots(made, where, updates, who, **second):
    prior, entry = made.named()
    one = made.rounds.ballot(where, updates, 0, prior, entry, bytes(3))
    two = dataclasses.replace(one, **second)
    signed = [who.sign_digest(b.digest(made.contracts.counter)) for b in (one, two)]
    return one, two, signed


def accuse(made, finder, one, two, signed):
    return made.write(finder, "Disputes", "equivocation", one.question, two.question, signed, keccak(one.scores),
                      keccak(two.scores))  # fmt: skip


@pytest.mark.parametrize("second", [
    {"prior": word("another")}, {"entry": word("another")}, {"base": word("another")}, {"subject": word("another")},
    {"scores": b"\1\1\1"},
], ids=lambda second: next(iter(second)))  # fmt: skip
def test_attack_two_ballots_in_one_attempt_cost_half_to_the_finder_and_half_to_the_pot(second):
    made = consortium(3)
    updates = made.updates()
    attempt = made.committed(updates)
    guilty, finder = made.members[1], made.members[2]
    shown = two_ballots(made, attempt, updates, guilty, **second)
    accuse(made, finder, *shown)
    assert made.deposit_of(guilty) == DEPOSIT - BOND
    assert made.deposit_of(finder) == DEPOSIT + BOND // 2
    assert made.read("Rewards", "pots", made.run) == BOND // 2
    with refused("D: twice"):
        accuse(made, finder, *shown)


def test_attack_accusing_an_honest_voter_of_two_ballots_is_refused():
    made = consortium(3)
    updates = made.updates()
    attempt = made.committed(updates)
    honest, finder = made.members[1], made.members[2]
    for change in ({"attempt": 1}, {"round": 2}, {"run": word("another run")}, {}):
        with refused("D: same"):  # an honest retry, another round, another run, the same ballot twice
            accuse(made, finder, *two_ballots(made, attempt, updates, honest, **change))
    one, two, signed = two_ballots(made, attempt, updates, honest, prior=word("another"))
    with refused("D: signer"):
        accuse(made, finder, one, two, [signed[0], finder.sign_digest(two.digest(made.contracts.counter))])
    with refused("D: signer"):
        accuse(made, finder, one, two, [signed[0], signed[0]])
    with refused("D: length"):
        accuse(made, finder, one, two, signed[:1])
    elsewhere = dataclasses.replace(made.contracts.counter, chain=1)
    with refused("D: signer"):
        accuse(made, finder, one, two, [signed[0], honest.sign_digest(two.digest(elsewhere))])
    assert made.deposit_of(honest) == DEPOSIT


def test_a_voter_who_accuses_itself_loses_half_all_the_same():
    made = consortium(3)
    updates = made.updates()
    attempt = made.committed(updates)
    guilty = made.members[1]
    accuse(made, guilty, *two_ballots(made, attempt, updates, guilty, prior=word("another")))
    assert made.deposit_of(guilty) == DEPOSIT - BOND // 2


def test_nobody_is_slashed_of_more_than_there_is():
    made = consortium(3, deposit=BOND)
    updates = made.updates()
    attempt = made.committed(updates)
    guilty = made.members[1]
    accuse(made, made.members[2], *two_ballots(made, attempt, updates, guilty, prior=word("another")))
    assert made.deposit_of(guilty) == 0
    made.wait(4800)
    attempt = made.rounds.open(made.members[0])
    accuse(made, made.members[2], *two_ballots(made, attempt, updates, guilty, prior=word("another")))
    assert made.deposit_of(guilty) == 0
    assert made.read("Token", "balanceOf", made.contracts.address("Quorum")) == 2 * BOND + BOND // 2
