"""Attacks on what a round pays: by those who earned nothing, twice, by forged scores, by a minority of voters, and in
the middle of a payment.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.errors import LedgerError
from commonprior.ledger import client
from commonprior.ledger.client import Rules
from commonprior.ledger.contract import artefact
from commonprior.ledger.rewards import Payout

from ._compiled import Deployed, compiled
from ._consortium import (
    BOND,
    HIDDEN_TERMS,
    SMALL_TERMS,
    consortium,
    identity,
    refused,
    word,
)

POT, PER_ROUND = 10**8, 10**6


def fund(made, amount=POT, per_round=PER_ROUND, who=0):
    made.write(made.members[who], "Token", "approve", made.contracts.address("Rewards"), amount)
    made.write(made.members[who], "Rewards", "fund", made.run, amount, per_round)


def claim(made, attempt, who, seal):
    current = attempt.current
    before = made.read("Token", "balanceOf", who.address)
    made.write(who, "Rewards", "claim", made.run, current.round, current.attempt, *seal)
    return made.read("Token", "balanceOf", who.address) - before


def scored_round(made, rows):
    """A finished round in which each member gives the scores of its row: (attempt, seal)."""
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    scores = {m.address: bytes(row) for m, row in zip(made.members, rows)}
    _, _, taken, ballots = made.finish(
        attempt, updates, ballots=lambda *n: made.ballots(attempt, updates, *n, scores=scores)
    )
    return attempt, made.seal_of(attempt, updates, taken, ballots)


def due(scores, weights, count):
    """A contributor's share: the weighted mean of scores clipped to their weighted median, of an equal part."""
    total = sum(weights)
    median = min(m for m in scores if 2 * sum(w for s, w in zip(scores, weights) if s <= m) >= total)
    clipped = sum(w * min(s, median) for s, w in zip(scores, weights))
    return PER_ROUND * clipped // (255 * count * total)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(1, 255), min_size=4, max_size=4), min_size=4, max_size=4), st.booleans())
def test_a_share_is_the_mean_of_scores_clipped_to_their_median_weighed_by_stake(rows, stake):
    made = consortium(4, None, rules=Rules(stake=stake))
    made.deposit(made.members[2], 3 * 10**7)
    made.begin(SMALL_TERMS)
    fund(made)
    attempt, seal = scored_round(made, rows)
    paid = [claim(made, attempt, m, seal) for m in made.members]
    voters = tuple(sorted(m.address for m in made.members))
    again = Payout(1, 0, voters, tuple(seal[2]), tuple(seal[3]), tuple(seal[0]), seal[1]).shares(PER_ROUND)
    assert paid == [again[m.address] for m in made.members]
    assert paid == [due([row[i] for row in rows], seal[2], 4) for i in range(4)]
    assert sum(paid) <= PER_ROUND


def test_attack_a_minority_of_voters_lifts_nobody():
    made = consortium(5)
    fund(made)
    honest, lifted = [100] * 5, [255, 1, 1, 1, 1]
    attempt, seal = scored_round(made, [lifted, lifted, honest, honest, honest])
    assert claim(made, attempt, made.members[0], seal) == PER_ROUND * 100 // (255 * 5)


def test_attack_claims_of_others_twice_or_of_the_unaccepted_are_refused():
    made = consortium(4)
    fund(made)
    attempt, seal = scored_round(made, [[9, 9, 9, 0]] * 4)
    assert claim(made, attempt, made.members[0], seal) > 0
    with refused("W: twice"):
        claim(made, attempt, made.members[0], seal)
    with refused("W: not a contributor"):
        claim(made, attempt, made.members[3], seal)
    stranger = identity("stranger")
    with refused("W: not a contributor"):
        claim(made, attempt, stranger, seal)
    with refused("W: seal"):
        claim(made, attempt, stranger, ([stranger.address, *seal[0][1:]], *seal[1:]))
    with refused("W: seal"):
        claim(made, attempt, made.members[3], (seal[0], 0b1111, *seal[2:]))


@pytest.mark.parametrize("forge", [
    lambda names, taken, weights, scores: (names, taken, weights, [bytes([255, 255, 255]), *scores[1:]]),
    lambda names, taken, weights, scores: (names, taken, [2, *weights[1:]], scores),
    lambda names, taken, weights, scores: (names, taken, weights[:2], scores[:2]),
    lambda names, taken, weights, scores: (names, taken, weights, scores[::-1]),
    lambda names, taken, weights, scores: (names[:2], taken & 3, weights, scores),
    lambda names, taken, weights, scores: (names, taken, weights[:2], scores),
    lambda names, taken, weights, scores: (names, taken, [], []),
], ids=["scores", "weight", "fewer voters", "order", "fewer contributors", "lengths", "nobody"])  # fmt: skip
def test_attack_a_claim_with_forged_scores_is_refused(forge):
    made = consortium(3)
    fund(made)
    attempt, seal = scored_round(made, [[50, 60, 70], [51, 61, 71], [52, 62, 72]])
    with pytest.raises(LedgerError, match="^W: (seal|scores)$"):
        claim(made, attempt, made.members[0], forge(*seal))
    assert made.read("Rewards", "pots", made.run) == POT


def test_attack_a_claim_before_a_round_is_over_or_in_another_is_refused():
    made = consortium(3)
    fund(made)
    attempt, seal = scored_round(made, [[9, 9, 9]] * 3)
    following = made.committed(made.updates())
    with refused("W: seal"):
        claim(made, following, made.members[0], seal)
    assert claim(made, attempt, made.members[0], seal) > 0


def test_no_round_pays_more_than_is_in_the_pot():
    made = consortium(3)
    fund(made, 100, 100)
    for left in (100, 1):  # 33 to each of three, and again as long as there is any
        attempt, seal = scored_round(made, [[255] * 3] * 3)
        paid = [claim(made, attempt, m, seal) for m in made.members]
        assert paid == ([33, 33, 33] if left == 100 else [1, 0, 0])
    assert made.read("Rewards", "pots", made.run) == 0


def test_attack_who_puts_next_to_nothing_in_first_does_not_say_what_others_pots_pay():
    """Nor that a round pays out the whole pot, nor that it pays a millionth for ever."""
    made = consortium(3)
    with refused("W: per round"):
        fund(made, 1, 2**127, who=1)
    fund(made, 1, 1, who=1)
    fund(made, POT, PER_ROUND)
    attempt, seal = scored_round(made, [[255] * 3] * 3)
    assert claim(made, attempt, made.members[1], seal) == PER_ROUND // 3


def test_hidden_deltas_pay_all_who_signed_alike_and_nobody_else():
    made = consortium(4, HIDDEN_TERMS)
    fund(made)
    ballot = Ballot(made.run, 1, 0, word("prior 0"), word("p"), digest(b"entry"))
    made.contracts.record(made.members[0], made.run, 0, word("p"), b"entry", made.sign(ballot, made.members[:3]))
    signers = [m.address for m in made.members[:3]]

    def share(who, names, round_=1, attempt=0):
        before = made.read("Token", "balanceOf", who.address)
        made.write(who, "Rewards", "share", made.run, round_, attempt, names)
        return made.read("Token", "balanceOf", who.address) - before

    assert share(made.members[0], signers) == PER_ROUND // 3
    for reason, who, names in [
        ("W: twice", 0, signers), ("W: not a signer", 3, signers), ("W: seal", 3, [*signers, made.members[3].address]),
        ("W: seal", 1, [signers[1]]), ("W: seal", 1, signers[::-1]),
    ]:  # fmt: skip
        with refused(reason):
            share(made.members[who], names)
    for where in ((2, 0), (1, 1), (0, 0)):
        with refused("W: seal"):
            share(made.members[1], signers, *where)


def test_funding_nothing_is_refused():
    made = consortium(1)
    for reason, amount, per_round in (("W: amount", 0, 1), ("W: per round", 1, 0), ("W: per round", 1, 2)):
        with refused(reason):
            fund(made, amount, per_round)


@pytest.fixture
def hostile(monkeypatch):
    """A consortium whose token calls back, and the token as it was compiled."""
    token = compiled("Hostile")
    monkeypatch.setattr(client, "artefact", lambda name: token if name == "Token" else artefact(name))
    made = consortium(3)
    door = Deployed.__new__(Deployed)
    door.chain, door.artefact, door.address = made.contracts.chain, token, made.contracts.address("Token")
    return made, door


def test_attack_a_token_that_calls_back_gets_nowhere(hostile):
    made, token = hostile
    quorum = made.contracts.address("Quorum")

    def call(contract, function, *values):
        return artefact(contract).functions[function].encode(values)

    me = made.members[0]

    def act(where, data):
        return token.write(me, "act", where, data)

    act(quorum, call("Quorum", "deposit", 3 * BOND))
    act(quorum, call("Quorum", "request", BOND))
    made.wait(604_800)

    def balance():
        return token.read("balanceOf", token.address)

    before = balance()
    for times, (again, movement) in enumerate([
        (("Quorum", "withdraw"), ("Quorum", "deposit", BOND)),
        (("Quorum", "request", BOND), ("Quorum", "withdraw")),
        (("Quorum", "deposit", BOND), ("Quorum", "deposit", BOND)),
        (("Rewards", "fund", made.run, 1, 1), ("Rewards", "fund", made.run, BOND, BOND)),
    ], 1):  # fmt: skip
        token.write(me, "arm", made.contracts.address(again[0]), call(*again))
        act(made.contracts.address(movement[0]), call(*movement))
        assert (token.read("tried"), token.read("entered")) == (times, 0)
    assert balance() == before - BOND + BOND - BOND - BOND


def test_every_movement_of_the_token_is_guarded():
    """Nothing that pays or is paid in can be entered a second time: the source says so at each of them."""
    from ._compiled import CONTRACTS

    for name in ("Quorum", "Rewards", "Disputes"):
        functions = (CONTRACTS / f"{name}.vy").read_text().split("\n\n\n")
        moving = [f for f in functions if "extcall token." in f and "@external" in f]
        assert moving
        assert all("@nonreentrant" in f for f in moving)


def test_attack_whoever_raises_what_a_round_pays_takes_the_pot():
    """It counts for rounds that are over too: whoever raises it pays for them."""
    made = consortium(3)
    fund(made, 10 * PER_ROUND)
    rounds = [scored_round(made, [[200] * 3] * 3) for _ in range(2)]
    with refused("W: per round"):
        fund(made, 5 * PER_ROUND, 5 * PER_ROUND, who=2)
    before = made.read("Token", "balanceOf", made.members[2].address)
    fund(made, 15 * PER_ROUND, 5 * PER_ROUND, who=2)  # two rounds that are over, and one more
    for attempt, seal in rounds:
        claim(made, attempt, made.members[2], seal)
    assert made.read("Token", "balanceOf", made.members[2].address) < before


def test_a_pot_is_filled_for_a_run_that_has_begun():
    made = consortium(3, None)
    made.write(made.members[0], "Token", "approve", made.contracts.address("Rewards"), POT)
    with refused("G: unknown"):
        made.write(made.members[0], "Rewards", "fund", word("a run"), POT, PER_ROUND)
