"""Attacks on proposals: a wrong mean, one that nobody can check, a copied or wrong challenge, a withheld chunk."""

import dataclasses
from hashlib import sha256

import pytest

from commonprior.errors import LedgerError
from commonprior.ledger import merkle
from commonprior.ledger.client import commitment, key_of
from commonprior.ledger.public import chosen, in_order, mean_of

from ._consortium import (
    BOND,
    DEPOSIT,
    LARGE_TERMS,
    ZERO,
    consortium,
    identity,
    refused,
    word,
)

SALT = word("challenge")
PRICE, WINDOW, ANSWER = 10**6, 86_400, 21_600


@pytest.fixture
def made():
    return consortium(3, LARGE_TERMS)


def proposed(made, spoil=lambda mean: mean, sender=1, updates=None, **how):
    """A proposal of a mean, as it is or spoilt: return (attempt, updates, the mean said)."""
    updates = made.updates() if updates is None else updates
    attempt = made.committed(updates)
    made.wait(600)
    mean = spoil(mean_of([u.delta for u in updates]))
    made.finish(attempt, updates, sender=made.members[sender], mean_root=merkle.root(mean), **how)
    return attempt, updates, mean


def wrong(chunk):
    """A mean with one number of a chunk changed."""

    def spoil(mean):
        at = 256 * chunk + 77
        return mean[:at] + bytes([mean[at] ^ 1]) + mean[at + 1 :]

    return spoil  # fmt: skip


def challenge(made, challenger, chunk, updates, mean, announced=True, salt=SALT):
    if announced:
        made.rounds.announce(challenger, chunk, salt)
        made.mine()
    return made.rounds.challenge(challenger, chunk, salt, updates, mean)


def demand(made, asking, who, chunk=0):
    made.write(asking, "Token", "approve", made.contracts.address("Disputes"), PRICE)
    return made.write(asking, "Disputes", "demand", made.run, who.address, chunk)


def expire(made, attempt, who, updates, chunk=0, sender=0):
    current = attempt.current
    return made.write(made.members[sender], "Disputes", "expire", made.run, current.round, current.attempt, who.address,
                      chunk, [u.who for u in updates], [u.root for u in updates])  # fmt: skip


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_attack_a_wrong_mean_is_void_and_costs_its_proposer_the_bond(made, chunk):
    _, updates, mean = proposed(made, wrong(chunk))
    challenger = made.members[2]
    before = made.deposit_of(challenger)
    for other in {0, 1, 2} - {chunk}:
        with refused("D: no fault"):
            challenge(made, challenger, other, updates, mean, salt=word(other))
    challenge(made, challenger, chunk, updates, mean)
    assert made.deposit_of(made.members[1]) == DEPOSIT - BOND
    assert before < made.deposit_of(challenger) <= before + BOND
    assert made.phase == 0
    assert made.head.rounds == 0
    made.round()
    assert made.head.rounds == 1


def test_attack_a_proposer_who_challenges_itself_still_loses(made):
    """Else a wrong mean costs nothing: its proposer announces its own challenge beforehand, and is always first."""
    _, updates, mean = proposed(made, wrong(1))
    challenge(made, made.members[1], 1, updates, mean)
    assert made.deposit_of(made.members[1]) <= DEPOSIT - BOND // 2


def test_attack_an_honest_proposal_challenged_stands(made):
    _, updates, mean = proposed(made)
    for chunk in range(3):
        with refused("D: no fault"):
            challenge(made, made.members[2], chunk, updates, mean, salt=word(chunk))
    made.wait(WINDOW)
    made.write(made.members[0], "Disputes", "settle", made.run)
    assert made.head.rounds == 1
    assert all(made.deposit_of(m) == DEPOSIT for m in made.members)


def test_attack_a_challenge_with_other_chunks_than_were_committed_is_refused(made):
    _, updates, mean = proposed(made)
    made.rounds.announce(made.members[2], 0, SALT)
    made.mine()
    lie = dataclasses.replace(updates[0], delta=bytes(len(mean)))

    def bring(given, said=mean):
        return made.rounds.challenge(made.members[2], 0, SALT, given, said)

    for given, reason in [
        ([lie, *updates[1:]], "D: contributors"), (updates[:2], "D: contributors"),
        ([*updates, updates[2]], "D: contributors"), ([], "D: contributors"),
    ]:  # fmt: skip
        with refused(reason):
            bring(given)
    with refused("D: proof"):
        bring(updates, wrong(0)(mean))
    with refused("D: proof"):
        bring(updates, wrong(2)(mean))  # right where it is shown, wrong elsewhere: another root


def test_attack_a_challenge_copied_before_it_is_in_a_block_is_refused(made):
    _, updates, mean = proposed(made, wrong(1))
    made.rounds.announce(made.members[2], 1, SALT)
    thief = identity("thief")
    with refused("D: announce"):
        challenge(made, thief, 1, updates, mean, announced=False)
    made.write(thief, "Disputes", "announce", word("whatever"))
    with refused("D: announce"):
        challenge(made, thief, 1, updates, mean, announced=False)
    challenge(made, made.members[2], 1, updates, mean, announced=False)
    assert made.deposit_of(made.members[2]) > DEPOSIT


def test_attack_a_challenge_that_was_not_announced_as_it_is_is_refused(made):
    """The announcement is of one challenger, run, chunk and salt; nothing else is covered by it."""
    _, updates, mean = proposed(made, wrong(1))
    with refused("D: announce"):
        challenge(made, made.members[2], 1, updates, mean, announced=False)
    made.rounds.announce(made.members[2], 1, SALT)
    with refused("D: twice"):
        made.rounds.announce(made.members[2], 1, SALT)
    for chunk, salt in ((0, SALT), (1, word("another"))):
        with refused("D: announce"):
            made.rounds.challenge(made.members[2], chunk, salt, updates, mean)


def test_attack_nothing_is_challenged_that_is_not_proposed(made):
    attempt, updates, mean = proposed(made)
    made.wait(WINDOW)
    made.write(made.members[0], "Disputes", "settle", made.run)
    with refused("R: phase"):
        challenge(made, made.members[2], 1, updates, mean)
    with refused("D: phase"):
        made.write(made.members[0], "Disputes", "settle", made.run)
    assert attempt


@pytest.mark.parametrize("length", [255, 224, 32, 1])
@pytest.mark.parametrize("chunk", [1, 2])
def test_attack_a_mean_of_chunks_of_another_length_can_be_challenged(made, chunk, length):
    """A root over a leaf of another length names no mean. If nobody could show it, any mean would pass."""
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    mean = mean_of([u.delta for u in updates])
    leaves = merkle.chunks_of(mean)
    leaves[chunk] = leaves[chunk][:length]
    made.finish(attempt, updates, sender=made.members[1], mean_root=root_over(leaves))
    made.rounds.announce(made.members[2], chunk, SALT)
    made.mine()
    proofs = [merkle.proof(merkle.levels_of(u.delta), chunk) for u in updates]
    shown = [merkle.chunks_of(u.delta)[chunk] for u in updates]
    made.write(made.members[2], "Disputes", "challenge", made.run, chunk, SALT, [u.who for u in updates],
               shown, proofs, leaves[chunk], proof_over(leaves, chunk))  # fmt: skip
    assert made.phase == 0


def test_attack_a_mean_that_nobody_was_shown_does_not_settle(made):
    """A challenge needs the chunk that a proposal claims. Of a root that is a hash of nothing, nobody has it."""
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    made.finish(attempt, updates, sender=made.members[1], mean_root=word("a root of nothing"))
    asking, before = made.members[2], made.deposit_of(made.members[1])
    made.write(asking, "Token", "approve", made.contracts.address("Disputes"), PRICE)
    made.write(asking, "Disputes", "demand", made.run, bytes(20), 1)
    made.wait(WINDOW)
    with refused("D: unanswered"):
        made.write(made.members[1], "Disputes", "settle", made.run)
    current = attempt.current
    made.write(asking, "Disputes", "expire", made.run, current.round, current.attempt, bytes(20), 1, [], [])
    assert made.contracts.current(made.run).phase == 0
    assert before - made.deposit_of(made.members[1]) == BOND
    assert made.deposit_of(asking) == DEPOSIT + BOND // 2


def test_a_mean_that_is_shown_on_demand_settles_and_its_shower_is_paid(made):
    attempt, updates, mean = proposed(made)
    asking, shower = made.members[2], made.members[0]
    made.write(asking, "Token", "approve", made.contracts.address("Disputes"), PRICE)
    made.write(asking, "Disputes", "demand", made.run, bytes(20), 1)
    tree, current = merkle.levels_of(mean), attempt.current
    before = made.read("Token", "balanceOf", shower.address)
    arguments = (made.run, current.round, current.attempt, 1, merkle.chunks_of(mean)[1], merkle.proof(tree, 1))
    with refused("D: proof"):
        made.write(shower, "Disputes", "supply_mean", *arguments[:4], bytes(256), arguments[5])
    made.write(shower, "Disputes", "supply_mean", *arguments)
    assert made.read("Token", "balanceOf", shower.address) - before == PRICE
    made.wait(WINDOW)
    made.write(shower, "Disputes", "settle", made.run)
    assert made.contracts.standing(made.run).rounds == 1


def root_over(leaves):
    nodes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    return sha256(b"\1" + sha256(b"\1" + nodes[0] + nodes[1]).digest() + nodes[2]).digest()


def proof_over(leaves, chunk):
    nodes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    return [sha256(b"\1" + nodes[0] + nodes[1]).digest()] if chunk == 2 else [nodes[1 - chunk], nodes[2]]


def test_attack_a_proposal_is_not_settled_before_its_window_is_over(made):
    proposed(made)
    made.wait(WINDOW - 10)
    with refused("D: early"):
        made.write(made.members[0], "Disputes", "settle", made.run)
    with refused("R: proposed"):
        made.rounds.open(made.members[0])


def test_attack_a_withheld_chunk_leaves_its_contributor_out_and_costs_its_bond(made):
    attempt, updates, _ = proposed(made)
    silent = made.members[2]
    demand(made, made.members[0], silent, 1)
    before = made.read("Token", "balanceOf", made.members[0].address)
    made.wait(ANSWER - 10)
    with refused("D: demand"):
        expire(made, attempt, silent, updates, 1)
    made.wait(10)
    for given in (updates[:2], [], updates[::-1]):
        with refused("D: contributors"):
            expire(made, attempt, silent, given, 1)
    expire(made, attempt, silent, updates, 1, sender=1)
    assert made.read("Token", "balanceOf", made.members[0].address) == before + PRICE
    assert made.phase == 0
    assert made.deposit_of(made.members[1]) == DEPOSIT  # the proposer could not know
    made.forfeit(attempt, silent)
    assert made.deposit_of(silent) == DEPOSIT - BOND
    with refused("D: twice"):
        made.forfeit(attempt, silent)
    with refused("D: demand"):
        expire(made, attempt, silent, updates, 1)


def test_attack_one_left_out_for_a_withheld_chunk_cannot_be_put_in(made):
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    demand(made, made.members[0], made.members[2])
    made.wait(ANSWER)
    expire(made, attempt, made.members[2], [])
    with refused("R: excluded"):
        made.finish(attempt, updates)
    with refused("D: excluded"):
        demand(made, made.members[0], made.members[2], 1)
    made.finish(attempt, updates[:2])  # nobody waits for it
    made.wait(WINDOW)
    made.write(made.members[0], "Disputes", "settle", made.run)
    assert made.head.rounds == 1


def test_a_demand_that_is_answered_pays_the_answer_and_holds_nothing_up(made):
    attempt, updates, _ = proposed(made)
    demand(made, made.members[0], made.members[2], 2)
    made.wait(WINDOW)
    with refused("D: unanswered"):
        made.write(made.members[0], "Disputes", "settle", made.run)
    before = made.read("Token", "balanceOf", made.members[2].address)
    made.rounds.supply(made.members[2], attempt, updates[2], 2)
    assert made.read("Token", "balanceOf", made.members[2].address) == before + PRICE
    with refused("D: no demand"):
        made.rounds.supply(made.members[2], attempt, updates[2], 2)
    with refused("D: demand"):
        expire(made, attempt, made.members[2], updates, 2)
    made.write(made.members[0], "Disputes", "settle", made.run)
    assert made.head.rounds == 1


def test_attack_an_answer_by_another_or_with_another_chunk_is_refused(made):
    attempt, updates, _ = proposed(made)
    demand(made, made.members[0], made.members[2], 1)
    with refused("D: no demand"):
        made.rounds.supply(made.members[1], attempt, updates[2], 1)
    with refused("D: no demand"):
        made.rounds.supply(made.members[2], attempt, updates[2], 0)
    with refused("D: hash"):
        made.rounds.supply(made.members[2], attempt, dataclasses.replace(updates[2], salt=ZERO), 1)
    current, tree = attempt.current, merkle.levels_of(updates[2].delta)
    for shown, at in ((merkle.chunks_of(updates[2].delta)[0], 1), (merkle.chunks_of(updates[2].delta)[1], 0)):
        with refused("D: proof"):
            made.write(made.members[2], "Disputes", "supply", made.run, current.round, current.attempt, attempt.base,
                       tree[-1][0], updates[2].salt, 1, shown, merkle.proof(tree, at))  # fmt: skip


def test_attack_an_answer_of_another_length_is_no_answer(made):
    """Nobody could be shown the mean of a chunk that is too short; who committed to one is left out."""
    updates = made.updates()
    attempt = made.rounds.open(made.members[0])
    leaves = merkle.chunks_of(updates[2].delta)
    leaves[1] = leaves[1][:32]
    root = root_over(leaves)
    made.write(made.members[2], "Rounds", "commit", made.run,
               commitment(updates[2].who, attempt.key, attempt.base, root, ZERO))  # fmt: skip
    made.wait(600)
    demand(made, made.members[0], made.members[2], 1)
    current = attempt.current
    with pytest.raises(LedgerError, match="^D: length$"):
        made.write(made.members[2], "Disputes", "supply", made.run, current.round, current.attempt, attempt.base, root,
                   ZERO, 1, leaves[1], proof_over(leaves, 1))  # fmt: skip


def test_attack_demands_of_what_was_never_promised_are_refused(made):
    attempt = made.committed(made.updates(made.members[:2]))
    made.wait(600)
    for reason, who, chunk in [
        ("D: no commitment", made.members[2], 0), ("D: no commitment", identity("stranger"), 0),
        ("D: chunk", made.members[0], 3),
    ]:  # fmt: skip
        with refused(reason):
            demand(made, made.members[0], who, chunk)
    with refused("T: allowance"):
        made.write(made.members[1], "Disputes", "demand", made.run, made.members[0].address, 0)
    demand(made, made.members[0], made.members[1])
    with refused("D: twice"):
        demand(made, made.members[1], made.members[1])
    assert attempt


def test_a_demand_before_anything_can_be_shown_or_after_the_window_is_refused(made):
    updates = made.updates()
    attempt = made.committed(updates)
    with refused("D: phase"):
        demand(made, made.members[0], made.members[1])
    made.wait(600)
    made.finish(attempt, updates)
    made.wait(WINDOW)
    with refused("D: late"):
        demand(made, made.members[0], made.members[1])


def test_the_contract_s_name_of_an_attempt_is_the_client_s(made):
    attempt = made.committed([])
    current = attempt.current
    assert made.read("Rounds", "key_of", made.run, current.round, current.attempt) == attempt.key
    assert attempt.key == key_of(made.run, 1, 0)
    assert chosen([], 0) == in_order([])
