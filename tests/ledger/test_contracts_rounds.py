"""Attacks on a round of public deltas: copied, wrong, left out, put in, out of order, out of time."""

import dataclasses

import pytest

from commonprior.errors import JournalError, LedgerError
from commonprior.identity import Identity
from commonprior.ledger.client import Terms, commitment, names_of
from commonprior.ledger.contract import artefact
from commonprior.ledger.onchain import check_means, entered
from commonprior.ledger.public import Update, chosen, in_order, lanes_of, mean_of
from commonprior.ledger.transaction import address_made

from ._consortium import (
    BOND,
    DEPOSIT,
    SMALL_TERMS,
    ZERO,
    consortium,
    identity,
    refused,
    word,
)


@pytest.fixture
def made():
    return consortium(3)


def ready(made, updates):
    """An attempt in which everyone committed and may finalise."""
    attempt = made.committed(updates)
    made.wait(600)
    return attempt


def test_the_mean_on_the_chain_is_the_mean_of_those_who_were_accepted():
    made = consortium(5)
    updates = made.updates()
    receipts, prior, taken, _ = made.finish(ready(made, updates), updates)
    assert made.mean(receipts[-1]) == mean_of([u.delta for u in updates])
    assert (taken, made.head[:2]) == (0b11111, (1, prior))
    updates = made.updates(seed=1)
    row = bytes([200, 0, 200, 1, 0])

    def scored(attempt):
        return lambda *named: made.ballots(attempt, updates, *named, scores=row)

    attempt = ready(made, updates)
    receipts, prior, taken, _ = made.finish(attempt, updates, ballots=scored(attempt))
    assert taken == 0b01101
    assert made.mean(receipts[-1]) == mean_of([updates[i].delta for i in (0, 2, 3)])


def test_attack_a_copied_commitment_cannot_be_shown(made):
    honest, thief = made.updates(made.members[:2])
    attempt = made.rounds.open(made.members[0])
    made.rounds.commit(made.members[0], attempt, honest)
    made.write(made.members[1], "Rounds", "commit", made.run, honest.commitment(attempt.key, attempt.base))
    stolen = dataclasses.replace(honest, who=thief.who)
    made.wait(600)
    with refused("R: hash"):
        made.rounds.reveal(made.members[1], stolen)
    with refused("R: hash"):
        made.finish(attempt, [honest, stolen])


def test_attack_a_commitment_serves_in_no_other_attempt_round_or_run(made):
    updates = made.updates()
    first = made.committed(updates)
    old = [u.commitment(first.key, first.base) for u in updates]
    made.wait(4800)
    second = made.rounds.open(made.members[0])
    for m, digest in zip(made.members, old):
        made.write(m, "Rounds", "commit", made.run, digest)
    made.wait(600)
    with refused("R: hash"):
        made.finish(second, updates)


def test_attack_a_second_commitment_and_an_empty_one_are_refused(made):
    update = made.updates()[0]
    attempt = made.committed([update])
    for digest in (update.commitment(attempt.key, attempt.base), word("another")):
        with refused("R: twice"):
            made.write(made.members[0], "Rounds", "commit", made.run, digest)
    with refused("R: twice"):
        made.write(made.members[1], "Rounds", "commit", made.run, ZERO)


def test_attack_strangers_and_those_without_a_bond_do_not_commit(made):
    attempt = made.committed([])
    stranger = identity("stranger")
    with refused("R: member"):
        made.rounds.commit(stranger, attempt, made.updates([stranger])[0])
    poor = made.members[0]
    made.write(poor, "Quorum", "request", DEPOSIT - BOND + 1)
    with refused("R: bond"):
        made.rounds.commit(poor, attempt, made.updates([poor])[0])


@pytest.mark.parametrize("spoil", [
    lambda u: dataclasses.replace(u, delta=bytes([u.delta[0] ^ 1]) + u.delta[1:]),
    lambda u: dataclasses.replace(u, salt=word("another salt")),
], ids=["delta", "salt"])  # fmt: skip
def test_attack_a_wrong_delta_or_salt_is_refused(made, spoil):
    updates = made.updates()
    attempt = ready(made, updates)
    spoilt = [*updates[:2], spoil(updates[2])]
    with refused("R: hash"):
        made.finish(attempt, spoilt)
    with refused("R: hash"):
        made.rounds.reveal(made.members[2], spoilt[2])


@pytest.mark.parametrize("length", [0, 31, 33, 64, 2048])
def test_attack_a_delta_of_another_length_is_refused(made, length):
    updates = made.updates()
    updates[1] = Update(updates[1].who, bytes(length), ZERO)
    attempt = made.rounds.open(made.members[0])
    for u in updates:
        root = u.root if u.delta else word("no root")
        made.write(
            made.of(u.who), "Rounds", "commit", made.run, commitment(u.who, attempt.key, attempt.base, root, u.salt)
        )
    made.wait(600)
    with refused("R: length"):
        made.finish(attempt, updates)


def test_attack_leaving_out_a_contributor_who_showed_its_update_is_refused(made):
    updates = made.updates()
    attempt = ready(made, updates)
    with refused("R: missing"):
        made.finish(attempt, updates[:2])  # it may still show it
    made.rounds.reveal(made.members[2], updates[2])
    made.wait(600)
    with refused("R: missing"):
        made.finish(attempt, updates[:2])
    made.finish(attempt, updates)


def test_attack_leaving_out_one_who_showed_nothing_waits_for_its_time(made):
    updates = made.updates()
    attempt = ready(made, updates)
    with refused("R: missing"):
        made.finish(attempt, updates[:2])
    made.wait(600)
    with refused("R: late"):
        made.rounds.reveal(made.members[2], updates[2])
    made.finish(attempt, updates[:2])


def test_a_reveal_before_its_time_or_twice_is_refused(made):
    updates = made.updates()
    attempt = made.committed(updates)
    with refused("R: late"):
        made.rounds.reveal(made.members[0], updates[0])
    with refused("R: early"):
        made.finish(attempt, updates)
    made.wait(600)
    made.rounds.reveal(made.members[0], updates[0])
    with refused("R: twice"):
        made.rounds.reveal(made.members[0], updates[0])


def test_attack_a_contributor_named_twice_or_out_of_order_is_refused(made):
    updates = made.updates()
    ready(made, updates)
    prior, entry = made.named()
    for names in ([0, 1, 1], [0, 0, 1], [2, 1, 0], [1, 0, 2]):
        chosen_ = [updates[i] for i in names]
        with refused("R: order"):
            made.write(
                made.members[0], "Rounds", "finalise", made.run, prior, entry, (ZERO, 0, 0, []),
                [u.who for u in chosen_], [], [u.salt for u in chosen_], [u.delta for u in chosen_], 7, ZERO, [], [],
            )  # fmt: skip


@pytest.mark.parametrize("taken", [0b000, 0b001, 0b011, 0b110, 0b101, 0b1111, 1 << 255 | 7])
def test_attack_a_wrong_taken_is_refused(made, taken):
    updates = made.updates()
    attempt = ready(made, updates)
    with pytest.raises(LedgerError, match="^R: (taken|least)$"):
        made.finish(attempt, updates, taken)


def test_attack_taking_one_who_was_not_accepted_is_refused(made):
    updates = made.updates()
    attempt = ready(made, updates)
    rows = {m.address: bytes([200, 200, i == 0]) for i, m in enumerate(made.members)}

    def scored(*named):
        return made.ballots(attempt, updates, *named, scores=rows)

    with refused("R: taken"):  # even if all of them signed that it is averaged
        made.finish(attempt, updates, 0b111,
                    lambda *named: made.ballots(attempt, updates, *named, scores=rows, taken=0b111))  # fmt: skip
    assert made.finish(attempt, updates, ballots=scored)[2] == 0b011


def test_attack_whoever_brings_the_ballots_does_not_choose_who_is_averaged(made):
    """All three sign a prior made of three updates, one of them against the third: leaving a ballot out must not turn
    the two thirds that accept the third into one third, with the same prior."""
    updates = made.updates()
    attempt = ready(made, updates)
    rows = {m.address: bytes([200, 200, 200 if i else 0]) for i, m in enumerate(made.members)}
    some = made.members[:2]
    with refused("Q: no vote"):  # nobody signed a mean of two: their signatures lead to strangers
        made.finish(
            attempt, updates, 0b011,
            lambda *named: made.ballots(attempt, updates, *named, scores=rows, who=some, taken=0b111),
        )  # fmt: skip


def test_attack_scores_that_their_voter_did_not_sign_are_refused(made):
    updates = made.updates()
    attempt = ready(made, updates)

    def forged(prior, entry):
        ballots = made.ballots(attempt, updates, prior, entry)
        first = made.members[0].address
        return ballots | {first: (bytes([255, 1, 1]), ballots[first][1])}

    with pytest.raises(LedgerError, match="^Q: (no vote|order)$"):
        made.finish(attempt, updates, 7, forged)
    for row in (b"\1\1", b"\1\1\1\1"):
        with refused("R: scores"):
            made.finish(attempt, updates, 7, lambda *named, row=row: made.ballots(attempt, updates, *named, scores=row))


def test_attack_fewer_contributors_than_agreed_make_no_round():
    made = consortium(3, SMALL_TERMS._replace(least=3))
    updates = made.updates()
    attempt = ready(made, updates)
    made.wait(600)
    with refused("R: least"):
        made.finish(attempt, updates[:2], 3)
    row = bytes([1, 1, 0])
    with refused("R: least"):
        made.finish(attempt, updates, 3, lambda *named: made.ballots(attempt, updates, *named, scores=row))


def test_attack_a_stranger_s_pages_change_nothing_in_anyone_else_s():
    made = consortium(18)
    updates = in_order(made.updates())
    attempt = ready(made, updates)
    first = updates[:16]

    def page(who, of, taken):
        return made.write(
            who, "Rounds", "page", made.run, (ZERO, 0, 0, []), [u.who for u in of], [u.salt for u in of],
            [u.delta for u in of], taken)  # fmt: skip

    page(made.members[0], first, 2**16 - 1)
    page(identity("stranger"), updates[2:], 0)
    prior, entry = made.named()
    ballots = made.ballots(attempt, updates, prior, entry)
    so_far = (names_of([u.who for u in first]), 16, 2**16 - 1, lanes_of([u.delta for u in first]))

    def finish(sender, so_far=so_far, taken=2**18 - 1):
        return made.write(
            sender, "Rounds", "finalise", made.run, prior, entry, so_far, [u.who for u in updates], [],
            [u.salt for u in updates[16:]], [u.delta for u in updates[16:]], taken, ZERO,
            [ballots[v][1] for v in sorted(ballots)], [ballots[v][0] for v in sorted(ballots)])  # fmt: skip

    with refused("R: page"):
        finish(identity("stranger"))
    forged = (so_far[0], 16, 2**16 - 1, [so_far[3][0] + 1, so_far[3][1]])
    with refused("R: page"):
        finish(made.members[0], forged)
    with refused("R: taken"):
        finish(made.members[0], taken=2**18 - 2)
    assert made.mean(finish(made.members[0])) == mean_of([u.delta for u in updates])


def test_attack_pages_of_one_attempt_do_not_serve_in_the_next():
    made = consortium(17)
    updates = in_order(made.updates())
    ready(made, updates)
    first = updates[:16]
    made.write(made.members[0], "Rounds", "page", made.run, (ZERO, 0, 0, []), [u.who for u in first],
               [u.salt for u in first], [u.delta for u in first], 2**16 - 1)  # fmt: skip
    made.wait(4800)
    ready(made, updates)
    so_far = (names_of([u.who for u in first]), 16, 2**16 - 1, lanes_of([u.delta for u in first]))
    with refused("R: page"):
        made.write(made.members[0], "Rounds", "page", made.run, so_far, [updates[16].who], [updates[16].salt],
                   [updates[16].delta], 2**17 - 1)  # fmt: skip


@pytest.mark.parametrize("function", ["commit", "reveal", "page", "finalise"])
def test_nothing_is_taken_in_a_round_that_is_not_open(made, function):
    update = made.updates()[0]
    values = {
        "commit": (word("x"),), "reveal": (ZERO, update.salt, update.delta),
        "page": ((ZERO, 0, 0, []), [update.who], [update.salt], [update.delta], 1),
        "finalise": (word("p"), b"e", (ZERO, 0, 0, []), [update.who], [], [update.salt], [update.delta], 1, ZERO, [],
                     []),
    }  # fmt: skip
    with refused("R: phase"):
        made.write(made.members[0], "Rounds", function, made.run, *values[function])
    made.round()
    with refused("R: phase"):
        made.write(made.members[0], "Rounds", function, made.run, *values[function])


def test_a_commitment_after_its_time_is_refused(made):
    attempt = made.committed([])
    made.wait(600)
    with refused("R: late"):
        made.rounds.commit(made.members[0], attempt, made.updates()[0])


def test_hidden_and_public_runs_do_not_mix(made):
    with refused("R: mode"):
        made.contracts.record(made.members[0], made.run, 0, word("p"), b"entry", [])
    hidden = consortium(3, Terms())
    with refused("R: mode"):
        hidden.rounds.open(hidden.members[0])
    unknown = dataclasses.replace(made, run=word("no run"))
    for function, values in (("open", ()), ("record", (0, word("p"), b"entry", []))):
        with refused("G: unknown"):
            made.write(made.members[0], "Rounds", function, unknown.run, *values)


def test_what_was_chosen_is_in_the_order_of_the_contributors(made):
    updates = made.updates()
    assert chosen(updates[::-1], 0b101) == [in_order(updates)[0], in_order(updates)[2]]


def test_where_the_proposer_is_gone_any_member_goes_on_in_its_place(made):
    """Its proposer alone opens a run's rounds, until four times a round's seconds have passed."""
    gone = Identity.generate()
    made.begin(proposer=gone.address, name="left alone")
    times = sum(made.terms[3:6])
    with refused("R: proposer"):
        made.write(made.members[0], "Rounds", "open", made.run)
    made.write(gone, "Rounds", "open", made.run)
    made.wait(4 * times - 10)
    with refused("R: proposer"):
        made.write(made.members[0], "Rounds", "open", made.run)
    made.wait(10)
    made.write(made.members[0], "Rounds", "open", made.run)
    assert made.contracts.current(made.run).attempt == 1


@pytest.mark.parametrize("count", [3, 16, 17, 40])
def test_updates_that_came_in_pages_are_read_back_from_the_chain_and_averaged_again(count):
    made = consortium(count)
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    made.finish(attempt, updates)
    found = entered(made.contracts, made.run)
    assert list(found[1].deltas) == [u.delta for u in in_order(updates)]
    check_means(made.contracts, made.run, found)
    swapped = (found[1].deltas[1], *found[1].deltas[1:])
    with pytest.raises(JournalError, match="round 1: the contract's mean is not that of the updates"):
        check_means(made.contracts, made.run, [found[0], found[1]._replace(deltas=swapped)])


def forwarder(target):
    """The code that makes a contract which hands every call on to another one."""
    code = bytes.fromhex("365f5f375f5f365f5f73") + target + bytes.fromhex("5af13d5f5f3e602a573d5ffd5b3d5ff3")
    return bytes([0x60, len(code)]) + bytes.fromhex("8060095f395ff3") + code


@pytest.mark.parametrize(("function", "values"), [
    ("begin", (ZERO, ZERO, ZERO, b"entry", (0,) * 7, "0x" + "00" * 20, [])),
    ("record", (ZERO, 0, ZERO, b"entry", [])),
    ("finalise", (ZERO, ZERO, b"entry", (ZERO, 0, 0, []), [], [], [], [], 0, ZERO, [], [])),
])  # fmt: skip
def test_attack_a_record_that_comes_by_way_of_another_contract_is_refused(function, values):
    """Its bytes would be in no transaction that an audit looks at."""
    made = consortium(3)
    someone, chain = identity("someone"), made.contracts.chain
    where = address_made(someone.address, chain.nonce(someone.address))
    chain.send(someone, None, forwarder(made.contracts.address("Rounds")))
    data = artefact("Rounds").functions[function].encode(values)
    with refused("R: origin"):
        chain.send(someone, where, data)
    with pytest.raises(LedgerError, match="^R: (?!origin)|^Q: |^G: |no reason|gave"):
        chain.send(someone, made.contracts.address("Rounds"), data)
