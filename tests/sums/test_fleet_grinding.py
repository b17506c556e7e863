"""A drawn graph that the coordinator would like to choose: by grinding it, or by putting its own keys into it.

The attacker is the coordinator, with the sites that a test calls colluders. What it wants is seat 0's vector.
"""

import itertools
import os

import numpy as np
import pytest

from commonprior.canonical import digest
from commonprior.errors import PolicyRefusal, ProtocolError
from commonprior.sums import _fleet_party, _graph
from commonprior.sums._draw import Coins, commit_contribution
from commonprior.sums._fleet_messages import (
    Announcement,
    Delivery,
    read_announcement,
    read_dealing,
    read_proposal,
    write_delivery,
    write_proposal,
    write_roll,
)
from commonprior.sums._fleet_packets import lines_to, open_shares, seal_shares, split_packet
from commonprior.sums._graph import draw_graph, draw_holders, make_roll, place_of, write_places
from commonprior.sums._keys import draw
from commonprior.sums._packets import Shares
from commonprior.sums._shamir import join, weights

VICTIM = 0
COLLUDERS = (9, 10, 11)


def roll_of(session, places):
    return make_roll(session, sorted(places), write_places(places))


def graph_of(attempt):
    return attempt.coordinator._graph


# A coordinator that grinds the graph.


def grind(attempt, tries):
    """Make rolls with other keys for the colluders until the victim should draw them; then let it, and open it."""
    session, terms = attempt.session, attempt.sum.terms
    attempt.until("shares")
    keys = {s: read_announcement(attempt.body(frame)) for s, frame in attempt.heard["keys"].items()}
    for _ in range(tries):
        drawn = {s: (draw(os.urandom), os.urandom(32)) for s in COLLUDERS}
        for s, (secrets, contribution) in drawn.items():
            committed = commit_contribution(session.hash, s, contribution)
            keys[s] = Announcement(secrets.public(session, s), committed, b"")
        roll = roll_of(session, {s: place_of(session, s, a.public, a.draw) for s, a in keys.items()})
        if set(COLLUDERS) <= set(draw_holders(roll.hash, range(12), VICTIM, bytes(32), terms.holders)):
            break
    request = attempt.request("shares", VICTIM, write_roll(roll, 12))
    dealing = read_dealing(attempt.body(attempt.ask(VICTIM, request)), terms.holders)
    holders = draw_holders(roll.hash, range(12), VICTIM, dealing.contribution, terms.holders)
    shares = {}
    for holder, packet in zip(holders, dealing.packets, strict=True):
        if holder in COLLUDERS:
            line = lines_to(session, roll, drawn[holder][0].channel, holder, VICTIM).back
            shares[holder] = open_shares(session, line, VICTIM, holder, packet)
    return shares


def test_attack_a_ground_graph(fleet):
    """Whatever roll it makes, the victim draws three given sites of eleven with 6 %; 2 of 20 come near it by chance."""
    opened = [len(grind(fleet(), 400)) == len(COLLUDERS) for _ in range(20)]
    assert sum(opened) < 8


def test_attack_a_ground_graph_succeeds_where_a_site_adds_nothing_of_its_own(fleet, monkeypatch):
    """As where the coordinator draws the graph, or it follows from the keys: it tries keys until it likes it."""

    def weak(tau, seats, seat, contribution, count):
        return sorted(Coins(digest([tau, seat])).sample([s for s in seats if s != seat], count))

    for module in (_fleet_party, _graph):
        monkeypatch.setattr(module, "draw_holders", weak)
    monkeypatch.setitem(globals(), "draw_holders", weak)
    attempt = fleet()
    shares = grind(attempt, 2000)
    assert len(shares) == attempt.sum.terms.threshold
    seed = join({s: x.seed for s, x in shares.items()}, weights(shares))
    assert seed == attempt.parties[VICTIM]._state.secrets.seed


REVEALS = {seat: digest(["reveal", seat]) for seat in range(40)}


def subsets(gone):
    """Every way to leave out up to `gone` sites other than the victim, of forty."""
    return itertools.chain.from_iterable(itertools.combinations(range(1, 40), x) for x in range(gone + 1))


def corrupted(holders):
    return sum(seat >= 35 for seat in holders)


def test_attack_a_ground_graph_by_leaving_reveals_out(session):
    """The last to reveal: once the victim has shown its contribution, nothing moves its holders."""
    made, seen = session(n=40, dropouts=3), set()
    roll = roll_of(made, {s: _graph.Place(digest([s]), digest([s])) for s in REVEALS})
    for left_out in itertools.islice(subsets(3), 0, 9000, 300):
        shown = {s: r for s, r in REVEALS.items() if s not in left_out}
        graph = draw_graph(made, roll, shown, 8)
        seen.add(tuple(np.flatnonzero(graph.holders[VICTIM]).tolist()))
    assert len(seen) == 1


def test_attack_a_ground_graph_succeeds_where_one_hash_of_all_reveals_draws_it():
    """Three silent sites of forty are 9,920 graphs to choose from: one has all five colluders among eight holders."""
    others = [s for s in range(40) if s != VICTIM]

    def joint(left_out):
        shown = [[s, r] for s, r in REVEALS.items() if s not in left_out]
        return Coins(digest([shown, VICTIM])).sample(others, 8)

    assert corrupted(joint(())) <= 2
    assert max(corrupted(joint(left_out)) for left_out in subsets(3)) >= 4


# Sybils.


def test_attack_sybils_fill_the_roll(fleet):
    attempt = fleet().until("shares")
    roll = attempt.coordinator._roll
    places = {s: roll.place(s) for s in roll.seats}
    own = {s: _graph.Place(os.urandom(32), bytes(32)) for s in range(12, 16)}
    with pytest.raises(ProtocolError, match="roll: seats of 3 bytes|roll: seat 15 is none of 12|seats of"):
        attempt.ask(
            VICTIM, attempt.request("shares", VICTIM, write_roll(roll_of(attempt.session, {**places, **own}), 16))
        )
    few = {s: places[s] for s in range(9)}
    with pytest.raises(ProtocolError, match="keys of 9 sites, expected at least 10"):
        attempt.ask(VICTIM, attempt.request("shares", VICTIM, write_roll(roll_of(attempt.session, few), 12)))


def impersonate(attempt, strip):
    """Put the coordinator's own keys in the place of everyone's but the victim's, and take its masks off with them."""
    session, terms = attempt.session, attempt.sum.terms
    attempt.until("keys")
    own = read_announcement(attempt.body(attempt.ask(VICTIM, attempt.outbox[VICTIM])))
    fakes = {s: draw(os.urandom) for s in range(1, 12)}
    shown = {s: os.urandom(32) for s in fakes}
    public = {VICTIM: own.public, **{s: secrets.public(session, s) for s, secrets in fakes.items()}}
    drawn = {VICTIM: own.draw, **{s: commit_contribution(session.hash, s, r) for s, r in shown.items()}}
    roll = roll_of(session, {s: place_of(session, s, public[s], drawn[s]) for s in public})
    request = attempt.request("shares", VICTIM, write_roll(roll, 12))
    dealing = read_dealing(attempt.body(attempt.ask(VICTIM, request)), terms.holders)
    shown[VICTIM] = dealing.contribution
    graph = draw_graph(session, roll, shown, terms.holders)
    lines = {s: lines_to(session, roll, f.channel, s, VICTIM) for s, f in fakes.items()}
    holders = graph.holders_of(VICTIM)
    shares = {
        s: open_shares(session, lines[s].back, VICTIM, s, packet)
        for s, packet in zip(holders, dealing.packets, strict=True)
    }
    junk, near = Shares(bytes(33), bytes(33)), graph.neighbours_of(VICTIM)
    delivery = Delivery(
        shown,
        tuple((public[s].mask, public[s].commitment) for s in near),
        tuple(bytes(64) for _ in holders),
        tuple(split_packet(seal_shares(session, lines[s].out, s, VICTIM, junk)) for s in graph.held_by(VICTIM)),
    )
    answer = attempt.ask(VICTIM, attempt.request("masked", VICTIM, write_delivery(delivery, 12)))
    seeds, keys = ({s: getattr(x, kind) for s, x in shares.items()} for kind in ("seed", "key"))
    return strip(attempt, seeds, keys, attempt.body(answer)["words"], {s: public[s].mask for s in near})


def test_attack_sybils_fill_the_neighbourhood(fleet, strip):
    """It gets the shares, before their holders' keys are checked, and never a vector."""
    with pytest.raises(ProtocolError, match="did not sign its place in the roll"):
        impersonate(fleet(), strip)


def test_attack_sybils_fill_the_neighbourhood_succeeds_where_signatures_are_not_checked(fleet, strip, monkeypatch):
    monkeypatch.setattr("commonprior.sums._fleet_party.verify", lambda key, signature, message: True)
    attempt = fleet()
    np.testing.assert_array_equal(impersonate(attempt, strip), attempt.vectors[VICTIM])


def test_attack_sybils_fill_the_cohort_is_for_the_guard(fleet):
    def trusts(seats):
        if len(seats & {0, 1, 2}) < 3:
            raise PolicyRefusal("too few whom this site trusts")

    attempt = fleet(play_={"guard": trusts}).until("consistency")
    for seat, request in attempt.outbox.items():
        hashes, _ = read_proposal(attempt.body(request, seat), 12)
        del hashes[1 if seat != 1 else 2]
        vouches = [
            attempt.coordinator._masked[peer].vouches[seat]
            for peer in graph_of(attempt).neighbours_of(seat) if peer in hashes
        ]  # fmt: skip
        with pytest.raises((PolicyRefusal, ProtocolError)):
            attempt.ask(seat, attempt.request("consistency", seat, write_proposal(hashes, 12, vouches)))
