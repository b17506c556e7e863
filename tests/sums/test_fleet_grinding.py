"""A drawn graph that the coordinator would like to choose: by grinding it, or by putting its own keys into it.

The attacker is the coordinator, with the sites that a test calls colluders. What it wants is seat 0's vector.
"""

import itertools
import os

import numpy as np
import pytest

from commonprior.canonical import digest
from commonprior.errors import CommonPriorError, PolicyRefusal, ProtocolError
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
from commonprior.sums._fleet_packets import PACKET_BYTES, lines_to, open_shares, split_packet
from commonprior.sums._fleet_party import FleetParty
from commonprior.sums._graph import draw_graph, draw_holders, make_roll, place_of, place_statement, write_places
from commonprior.sums._keys import draw
from commonprior.sums._shamir import join, weights

VICTIM = 0
COLLUDERS = (9, 10, 11)


def roll_of(session, places):
    return make_roll(session, sorted(places), write_places(places))


def unsigned_roll(session, places, parties):
    return write_roll(roll_of(session, places), dict.fromkeys(places, bytes(64)), parties)


def graph_of(attempt):
    return attempt.coordinator._graph


# A coordinator that grinds the graph.


def grind(attempt, tries, identities):
    """Make rolls with other keys for the colluders until the victim should draw them; then let it, and open it."""
    session, terms = attempt.session, attempt.sum.terms
    attempt.until("shares")
    keys = {s: read_announcement(attempt.body(frame)) for s, frame in attempt.heard["keys"].items()}
    for _ in range(tries):
        drawn = {s: (draw(os.urandom), os.urandom(32)) for s in COLLUDERS}
        for s, (secrets, contribution) in drawn.items():
            public, committed = secrets.public(session, s), commit_contribution(session.hash, s, contribution)
            statement = place_statement(session, s, place_of(session, s, public, committed))
            keys[s] = Announcement(public, committed, identities[s].sign(statement))
        roll = roll_of(session, {s: place_of(session, s, a.public, a.draw) for s, a in keys.items()})
        if set(COLLUDERS) <= set(draw_holders(roll.hash, range(12), VICTIM, bytes(32), terms.holders)):
            break
    request = attempt.request("shares", VICTIM, write_roll(roll, {s: a.signature for s, a in keys.items()}, 12))
    dealing = read_dealing(attempt.body(attempt.ask(VICTIM, request)), terms.holders)
    holders = draw_holders(roll.hash, range(12), VICTIM, dealing.contribution, terms.holders)
    shares = {}
    for holder, packet in zip(holders, dealing.packets, strict=True):
        if holder in COLLUDERS:
            line = lines_to(session, roll, drawn[holder][0].channel, holder, VICTIM).back
            shares[holder] = open_shares(session, line, VICTIM, holder, packet)
    return shares


def test_attack_a_ground_graph(fleet, identities):
    """Whatever roll it makes, the victim draws three given sites of eleven with 6 %; 2 of 20 come near it by chance."""
    opened = [len(grind(fleet(), 400, identities)) == len(COLLUDERS) for _ in range(20)]
    assert sum(opened) < 8


def test_attack_a_ground_graph_succeeds_where_a_site_adds_nothing_of_its_own(fleet, identities, monkeypatch):
    """As where the coordinator draws the graph, or it follows from the keys: it tries keys until it likes it."""

    def weak(tau, seats, seat, contribution, count):
        return sorted(Coins(digest([tau, seat])).sample([s for s in seats if s != seat], count))

    for module in (_fleet_party, _graph):
        monkeypatch.setattr(module, "draw_holders", weak)
    monkeypatch.setitem(globals(), "draw_holders", weak)
    attempt = fleet()
    shares = grind(attempt, 2000, identities)
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
        attempt.ask(VICTIM, attempt.request("shares", VICTIM, unsigned_roll(attempt.session, {**places, **own}, 16)))
    few = {s: places[s] for s in range(9)}
    with pytest.raises(ProtocolError, match="keys of 9 sites, expected at least 10"):
        attempt.ask(VICTIM, attempt.request("shares", VICTIM, unsigned_roll(attempt.session, few, 12)))


def impersonate(attempt, strip, forged=range(1, 12), most_silent=0):
    """Put the coordinator's own keys in the place of `forged`, and take the victim's masks off with them.

    Of the victim's holders, forged ones do not deal, up to `most_silent`, and nobody is asked for their signatures.
    Returns None where chance gave it too few shares, or none that it forged. The contributions of the others are known
    to a coordinator that shows each of them a roll of its own.
    """
    session, terms = attempt.session, attempt.sum.terms
    attempt.until("shares")
    true = {s: read_announcement(attempt.body(frame)) for s, frame in attempt.heard["keys"].items()}
    fakes = {s: draw(os.urandom) for s in forged}
    colluders = {s: attempt.parties[s]._state.secrets for s in COLLUDERS if s not in fakes}
    shown = {s: attempt.parties[s]._state.contribution for s in range(12) if s not in fakes}
    shown |= {s: os.urandom(32) for s in fakes}
    public = {s: fakes[s].public(session, s) if s in fakes else a.public for s, a in true.items()}
    drawn = {s: commit_contribution(session.hash, s, r) for s, r in shown.items()}
    roll = roll_of(session, {s: place_of(session, s, public[s], drawn[s]) for s in public})
    signatures = {s: bytes(64) if s in fakes else a.signature for s, a in true.items()}
    request = attempt.request("shares", VICTIM, write_roll(roll, signatures, 12))
    dealing = read_dealing(attempt.body(attempt.ask(VICTIM, request)), terms.holders)
    known = {s: lines_to(session, roll, own.channel, s, VICTIM) for s, own in (fakes | colluders).items()}
    holders = draw_holders(roll.hash, roll.seats, VICTIM, dealing.contribution, terms.holders)
    shares = {
        s: open_shares(session, known[s].back, VICTIM, s, packet)
        for s, packet in zip(holders, dealing.packets, strict=True)
        if s in known
    }
    silent = [s for s in holders if s in fakes and most_silent]
    if len(shares) < terms.threshold or len(silent) > most_silent or (most_silent and not silent):
        return None
    graph = draw_graph(session, roll, {s: r for s, r in shown.items() if s not in silent}, terms.holders)
    near, junk = graph.neighbours_of(VICTIM), os.urandom(PACKET_BYTES)
    delivery = Delivery(
        {s: shown[s] for s in graph.dealers},
        tuple((public[s].mask, public[s].commitment) for s in near),
        tuple(split_packet(junk) for _ in graph.held_by(VICTIM)),
    )
    answer = attempt.ask(VICTIM, attempt.request("masked", VICTIM, write_delivery(delivery, 12)))
    seeds, keys = ({s: getattr(x, kind) for s, x in shares.items()} for kind in ("seed", "key"))
    return strip(attempt, seeds, keys, attempt.body(answer)["words"], {s: public[s].mask for s in near})


def test_attack_sybils_fill_the_neighbourhood(fleet, strip):
    """Nothing is dealt to a holder that did not sign; no other roll is looked at, until a draw avoids the forged."""
    attempt = fleet()
    with pytest.raises(ProtocolError, match="did not sign its place in the roll"):
        impersonate(attempt, strip)
    with pytest.raises(ProtocolError, match="seat 0 has left this attempt and answers nothing more"):
        attempt.ask(VICTIM, attempt.outbox[VICTIM])


def test_attack_sybils_fill_the_neighbourhood_succeeds_where_signatures_are_not_checked(fleet, strip, monkeypatch):
    monkeypatch.setattr("commonprior.sums._fleet_party.verify", lambda key, signature, message: True)
    attempt = fleet()
    np.testing.assert_array_equal(impersonate(attempt, strip), attempt.vectors[VICTIM])


FEW_FORGED = (1, 2, 3, 4)


def test_attack_forged_holders_that_never_deal(fleet, strip):
    """A holder that reads the packets and then seems to drop out: its signature counts as much as any other's."""
    came = []
    for _ in range(20):
        try:
            came.append(impersonate(fleet(), strip, FEW_FORGED, 2))
        except ProtocolError as error:
            came.append(str(error))
    assert sum("did not sign its place in the roll" in (one or "") for one in came) > 10
    assert all(one is None or "did not sign" in one for one in came)


def test_attack_forged_holders_that_never_deal_succeeds_where_only_those_who_deal_must_have_signed(
    fleet, strip, monkeypatch
):
    """It drops those who did not sign, so that whoever is left did."""
    monkeypatch.setattr(FleetParty, "_require_signed", lambda self, roll, signatures: None)
    for _ in range(60):
        attempt = fleet()
        bare = impersonate(attempt, strip, FEW_FORGED, 2)
        if bare is not None:
            break
    np.testing.assert_array_equal(bare, attempt.vectors[VICTIM])


def low_order_places(attempt, identities):
    """What everybody signed, but for colluders with points of low order for keys: places and signatures by seat."""
    keys = {s: read_announcement(attempt.body(frame)) for s, frame in attempt.heard["keys"].items()}
    places = {s: place_of(attempt.session, s, a.public, a.draw) for s, a in keys.items()}
    signatures = {s: a.signature for s, a in keys.items()}
    for turn, colluder in enumerate(COLLUDERS):
        places[colluder] = places[colluder]._replace(channel=turn.to_bytes(1, "big") + bytes(31))
        statement = place_statement(attempt.session, colluder, places[colluder])
        signatures[colluder] = identities[colluder].sign(statement)
    return places, signatures


def test_attack_a_colluder_s_key_that_no_secret_comes_of_succeeds_where_a_site_may_draw_again(
    fleet, identities, monkeypatch
):
    """Who refused under one roll answers the next: holders are drawn until the coordinator likes them."""
    monkeypatch.setattr(FleetParty, "close", lambda party, phase: None)
    attempt = fleet(play_={"guard": lambda seats: None}).until("shares")
    places, signatures = low_order_places(attempt, identities)
    places = {s: p for s, p in places.items() if s not in COLLUDERS[2:]}
    low = write_roll(roll_of(attempt.session, places), signatures, 12)
    again = 0
    for seat in range(9):
        try:
            attempt.ask(seat, attempt.request("shares", seat, low))
        except CommonPriorError:
            assert attempt.ask(seat, attempt.outbox[seat])
            again += 1
    assert again > 2


def test_attack_a_colluder_s_key_that_no_secret_comes_of_and_roll_after_roll(fleet, identities):
    """A point of low order, signed: whoever drew it refuses, and must not draw again under another roll."""
    attempt = fleet(play_={"guard": lambda seats: None}).until("shares")
    (places, signatures), refused = low_order_places(attempt, identities), 0
    request = write_roll(roll_of(attempt.session, {**places, 10: places[9], 11: places[9]}), signatures, 12)
    with pytest.raises(ProtocolError, match="two of 12 sites in the roll have the same key"):
        attempt.ask(VICTIM, attempt.request("shares", VICTIM, request))
    places = {s: p for s, p in places.items() if s not in COLLUDERS[2:]}
    low = write_roll(roll_of(attempt.session, places), signatures, 12)
    for seat in range(9):
        try:
            attempt.ask(seat, attempt.request("shares", seat, low))
        except CommonPriorError:
            refused += 1
            with pytest.raises(ProtocolError, match=f"seat {seat} has left this attempt"):
                attempt.ask(seat, attempt.outbox[seat])
    assert refused > 2


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
