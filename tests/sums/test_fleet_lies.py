"""What does not add up on a drawn graph: views, rolls, rounds and messages that differ, and sites that lie.

The attacker is the coordinator, with the sites that a test calls colluders. What it wants is seat 0's vector.
"""

import itertools
import os

import numpy as np
import pytest

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.sums import Aborted, Aggregate, _fleet_party
from commonprior.sums._fleet_messages import (
    Delivery,
    read_delivery,
    read_proposal,
    read_roll,
    write_delivery,
    write_proposal,
    write_roll,
)
from commonprior.sums._fleet_packets import Line, lines_to, open_shares, seal_shares, split_packet
from commonprior.sums._graph import draw_holders, make_roll, write_places
from commonprior.sums._packets import Shares

VICTIM = 0


def roll_of(session, places):
    return make_roll(session, sorted(places), write_places(places))


def graph_of(attempt):
    return attempt.coordinator._graph


# Different rolls, graphs or rounds for different sites.


def test_attack_the_victim_is_shown_another_graph(fleet):
    """It sees one holder's contribution changed: nobody takes its word, its seed stays closed."""
    far = None
    while far is None:  # one draw in thirty makes everybody a neighbour
        attempt = fleet(terms=(8, 3, 10)).until("masked")
        held = graph_of(attempt).held_by(VICTIM)
        far = next((s for s in range(11, 0, -1) if s not in held), None)
    delivery = read_delivery(attempt.body(attempt.outbox[VICTIM], VICTIM), 12)
    for shown in (
        {**delivery.revealed, far: os.urandom(32)},
        {s: r for s, r in delivery.revealed.items() if s != far},
        {**delivery.revealed, VICTIM: os.urandom(32)},
    ):
        forged = write_delivery(delivery._replace(revealed=shown), 12)
        try:
            answer = attempt.ask(VICTIM, attempt.request("masked", VICTIM, forged))
        except ProtocolError:
            continue
        attempt.tell("masked", VICTIM, answer)
    for seat, request in attempt.outbox.items():
        if seat != VICTIM or VICTIM not in attempt.heard.get("masked", {}):
            attempt.tell("masked", seat, attempt.ask(seat, request))
    attempt.close("masked")
    done = attempt.finish({VICTIM: "consistency"}, start="consistency")
    if isinstance(done, Aggregate):
        np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))
    else:
        assert "shares of seat 0 are left" in done.reason


def test_attack_a_word_for_another_view_keeps_a_seed_closed(fleet):
    attempt = fleet(terms=(8, 3, 10)).until("masked")
    for seat, request in attempt.outbox.items():
        answer = attempt.ask(seat, request)
        if seat == VICTIM:
            body = attempt.body(answer)
            answer = attempt.answer("masked", seat, {**body, "vouches": os.urandom(len(body["vouches"]))})
        attempt.tell("masked", seat, answer)
    attempt.close("masked")
    done = attempt.finish(start="consistency")
    assert isinstance(done, Aborted)
    assert "0 shares of seat 0 are left" in done.reason


def test_attack_two_rolls_for_two_halves(fleet):
    """Both of true places, one without the last site: nobody vouches across, and no set of survivors is signed."""
    attempt = fleet(terms=(8, 3, 10)).until("shares")
    roll = attempt.coordinator._roll
    other = {s: roll.place(s) for s in roll.seats if s != 11}
    signed = {s: attempt.body(frame)["signature"] for s, frame in attempt.heard["keys"].items()}
    halves = {s: write_roll(roll if s < 6 else roll_of(attempt.session, other), signed, 12) for s in range(11)}
    for seat, roll in halves.items():
        attempt.tell("shares", seat, attempt.ask(seat, attempt.request("shares", seat, roll)))
    attempt.close("shares")
    refused = 0
    for phase in ("masked", "consistency", "unmask"):
        for seat, request in attempt.outbox.items():
            try:
                attempt.tell(phase, seat, attempt.ask(seat, request))
            except ProtocolError:
                refused += 1
        step = attempt.coordinator.close(phase)
        if step.done:
            break
        attempt.outbox = dict(step.send)
    assert isinstance(step.done, Aborted)
    assert phase != "unmask"
    assert refused > 0


def test_attack_two_places_with_one_key(fleet):
    attempt = fleet().until("shares")
    roll = attempt.coordinator._roll
    places = {s: roll.place(s) for s in roll.seats}
    places[2] = places[2]._replace(channel=places[3].channel)
    twice = attempt.request(
        "shares", 1, write_roll(roll_of(attempt.session, places), dict.fromkeys(places, bytes(64)), 12)
    )
    with pytest.raises(ProtocolError, match="two of 12 sites in the roll have the same key; expected fresh keys"):
        attempt.ask(1, twice)


@pytest.mark.parametrize("change", [{"attempt": 1}, {"round": 2}, {"base": b"\x01" * 32}, {"head": b"\x01" * 32}])
@pytest.mark.parametrize("phase", ["keys", "shares", "masked", "consistency", "unmask"])
def test_attack_a_frame_of_another_session(fleet, change, phase):
    attempt, other = fleet().until(phase), fleet(**change).until(phase)
    with pytest.raises(ProtocolError, match=f"{phase} frame of session"):
        attempt.ask(1, other.outbox[1])
    with pytest.raises(ProtocolError, match=f"{phase} frame of session"):
        attempt.coordinator.receive(1, other.ask(1, other.outbox[1]))


def test_attack_mixed_attempts(fleet):
    """Bodies of another attempt, signed anew for this one: keys, contributions and packets do not carry over."""
    attempt, other = fleet().until("shares"), fleet(attempt=1).until("shares")
    with pytest.raises(ProtocolError, match="keys in the roll for seat 1 are not the ones that it announced"):
        attempt.ask(1, attempt.request("shares", 1, other.body(other.outbox[1], 1)))
    foreign = other.body(other.ask(1, other.outbox[1]))
    with pytest.raises(ProtocolError, match="seat 1 reveals another contribution"):
        attempt.tell("shares", 1, attempt.answer("shares", 1, foreign))
    attempt.hold("shares")
    other.hold("shares")
    with pytest.raises(ProtocolError, match="contribution shown for seat 1 is not the one"):
        attempt.ask(1, attempt.request("masked", 1, other.body(other.outbox[1], 1)))


def test_a_packet_opens_for_its_pair_roll_and_session_only(fleet):
    attempt = fleet().until("shares")
    session, roll = attempt.session, attempt.coordinator._roll
    secrets = {s: party._state.secrets for s, party in enumerate(attempt.parties)}
    lines = lines_to(session, roll, secrets[1].channel, 1, 2)
    shares = Shares(os.urandom(33), os.urandom(33))
    packet = split_packet(seal_shares(session, lines.out, 1, 2, shares))
    there = lines_to(session, roll, secrets[2].channel, 2, 1)
    assert (there.back, there.out) == lines
    assert lines.out != lines.back
    assert open_shares(session, there.back, 1, 2, packet) == shares
    assert open_shares(session, there.out, 1, 2, packet) is None
    assert open_shares(session, there.back, 2, 1, packet) is None
    assert open_shares(session, there.back, 1, 2, packet._replace(seed=bytes(32))) is None
    other_roll = roll_of(session, {s: roll.place(s) for s in roll.seats if s != 7})
    other_session = fleet(attempt=1).session
    for made, changed in ((session, other_roll), (other_session, roll)):
        assert open_shares(made, lines_to(made, changed, secrets[2].channel, 2, 1).back, 1, 2, packet) is None
    assert repr(lines.out) == "Line()"
    assert len({*lines.out, *lines.back}) == 4
    assert isinstance(lines.out, Line)


# What does not add up.


def test_attack_deliveries_that_do_not_add_up(fleet):
    attempt = fleet(terms=(6, 3, 10)).until("masked")
    true = read_delivery(attempt.body(attempt.outbox[1], 1), 12)
    graph = graph_of(attempt)
    near, dealers = graph.neighbours_of(1), graph.held_by(1)
    packets, revealed = true.packets, true.revealed
    (_, commitment), *others = true.keys
    for change, why in (
        ({"keys": true.keys[1:]}, f"keys of {len(near) - 1} neighbours, expected {len(near)}"),
        ({"keys": ((bytes(32), commitment), *others)}, f"shown of seat {near[0]} is not what stands in the roll"),
        ({"keys": (*others, true.keys[0])}, f"shown of seat {near[0]} is not what stands in the roll"),
        ({"packets": packets[1:]}, f"packets of {len(dealers) - 1} dealers, expected {len(dealers)}"),
        ({"revealed": {s: r for s, r in revealed.items() if s < 9}}, "shares of 9 sites, expected at least 10"),
        (
            {"revealed": {s: r for s, r in revealed.items() if s != 1}},
            "shown for seat 1 is not the one that it revealed",
        ),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(1, attempt.request("masked", 1, write_delivery(true._replace(**change), 12)))
    assert attempt.ask(1, attempt.outbox[1])


@pytest.mark.parametrize("drew", [True, False])
def test_attack_a_roll_with_another_site_s_signature(fleet, drew):
    """A site looks at the signatures of those whom it drew, and at no others."""
    attempt = fleet().until("shares")
    seats, lines, signed = read_roll(attempt.body(attempt.outbox[1], 1), 12)
    roll = make_roll(attempt.session, seats, lines)
    holders = draw_holders(roll.hash, seats, 1, attempt.parties[1]._state.contribution, 5)
    first, second = holders[:2] if drew else [seat for seat in seats if seat not in (1, *holders)][:2]
    shown = {**signed, first: signed[second], second: signed[first]}
    request = attempt.request("shares", 1, write_roll(roll, shown, 12))
    if drew:
        with pytest.raises(ProtocolError, match=f"seat {first} did not sign its place in the roll"):
            attempt.ask(1, request)
    else:
        assert attempt.ask(1, request)


def test_attack_a_holder_that_did_not_deal_is_not_masked_for(fleet):
    """A site whose holders did not deal has nobody to hide with: it sends nothing."""
    attempt = fleet(terms=(2, 2, 7), dropouts=5).until("shares")
    roll = attempt.coordinator._roll
    gone = draw_holders(roll.hash, roll.seats, 1, attempt.parties[1]._state.contribution, 2)[:1]
    attempt.hold("shares", absent=gone)
    if attempt.outbox:
        with pytest.raises(ProtocolError, match="1 of seat 1's holders dealt, expected at least 2"):
            attempt.ask(1, attempt.outbox[1])
    revealed = {s: attempt.body(f)["contribution"] for s, f in attempt.heard["shares"].items()}
    delivery = write_delivery(Delivery(revealed, (), ()), 12)
    with pytest.raises(ProtocolError, match="1 of seat 1's holders dealt, expected at least 2"):
        attempt.ask(1, attempt.request("masked", 1, delivery))


def test_attack_a_holder_s_contribution_that_it_did_not_commit_to(fleet):
    attempt = fleet(terms=(8, 3, 10)).until("masked")
    true = read_delivery(attempt.body(attempt.outbox[1], 1), 12)
    seat = graph_of(attempt).holders_of(1)[0]
    for _ in range(20):
        shown = {**true.revealed, seat: os.urandom(32)}
        with pytest.raises(ProtocolError):
            attempt.ask(1, attempt.request("masked", 1, write_delivery(true._replace(revealed=shown), 12)))


def test_attack_proposals_that_do_not_add_up(fleet):
    attempt = fleet(terms=(6, 3, 10)).until("shares")
    attempt.hold("shares", absent=[11])
    attempt.hold("masked")
    masked = attempt.coordinator._masked
    hashes, vouches = read_proposal(attempt.body(attempt.outbox[1], 1), 12)
    swapped = {**hashes, 1: hashes[2], 2: hashes[1]}
    for changed, words, why in (
        ({**hashes, 11: bytes(32)}, vouches, r"survivors \[11\] were not taking part"),
        ({s: h for s, h in hashes.items() if s < 9}, vouches, "consistency of 9 sites, expected at least 10"),
        ({s: h for s, h in hashes.items() if s != 1}, vouches, "seat 1 sent its input, and the survivors hold another"),
        (swapped, vouches, "seat 1 sent its input, and the survivors hold another"),
        (hashes, vouches[1:], f"{len(vouches) - 1} neighbours vouch, expected all of {len(vouches)}"),
        (hashes, tuple(bytes(32) for _ in vouches), "0 of seat 1's holders vouch for what it has seen, expected at"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(1, attempt.request("consistency", 1, write_proposal(changed, 12, words)))
    assert len(masked) == 11
    assert isinstance(attempt.finish(start="consistency"), Aggregate)


# Sites that lie to an honest coordinator.


def lie_about(attempt, liar, owner, kind):
    body = attempt.body(attempt.ask(liar, attempt.outbox[liar]))
    body[kind] = [[s, b"\x01" * 33 if s == owner else share] for s, share in body[kind]]
    return attempt.answer("unmask", liar, body)


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_attack_a_wrong_share_is_named_and_the_sum_is_right_without_it(fleet, kind):
    attempt = fleet(terms=(8, 3, 10)).until("masked")
    attempt.hold("masked", absent=[VICTIM] if kind == "keys" else [])
    attempt.hold("consistency")
    liar = next(s for s in graph_of(attempt).holders_of(VICTIM))
    why = f"seat {liar} released a {kind[:-1]} share of seat 0 that was not dealt to it"
    with pytest.raises(ProtocolError, match=why):
        attempt.tell("unmask", liar, lie_about(attempt, liar, VICTIM, kind))
    done = attempt.hold("unmask", absent=[liar]).done
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


@pytest.mark.parametrize("leave", [{}, {1: "masked"}])
def test_attack_a_dealer_whose_shares_give_another_secret_is_named(fleet, monkeypatch, leave):
    true = _fleet_party.split
    attempt = fleet(terms=(8, 3, 10)).until("shares")
    for seat in range(12):
        with monkeypatch.context() as patch:
            if seat == 1:
                patch.setattr(_fleet_party, "split", lambda secret, *rest: true(bytes(32), *rest))
            attempt.tell("shares", seat, attempt.ask(seat, attempt.outbox[seat]))
    attempt.close("shares")
    done = attempt.finish(leave, start="masked")
    assert done.culprits == (1,)
    assert "the shares that seat 1 dealt do not give the secret" in done.reason


def test_attack_a_packet_of_rubbish_for_few_changes_nothing_and_for_many_ends_it(fleet):
    for rubbish, ends in ((1, False), (6, True)):
        attempt = fleet(terms=(8, 3, 10)).until("shares")
        for seat, request in attempt.outbox.items():
            answer = attempt.ask(seat, request)
            if seat == 1:
                body = attempt.body(answer)
                packets = bytearray(body["packets"])
                for at in range(rubbish):
                    packets[146 * at] ^= 1
                answer = attempt.answer("shares", 1, {**body, "packets": bytes(packets)})
            attempt.tell("shares", seat, answer)
        attempt.close("shares")
        done = attempt.finish(start="masked")
        if ends:
            assert "2 shares of seat 1 are left of 3 that are needed" in done.reason
        else:
            np.testing.assert_array_equal(done.value, sum(attempt.vectors))


def test_attack_keys_the_coordinator_must_not_take(fleet):
    attempt = fleet().until("keys")
    body = attempt.body(attempt.ask(0, attempt.outbox[0]))
    attempt.tell("keys", 0, attempt.ask(0, attempt.outbox[0]))
    fresh = attempt.body(attempt.ask(1, attempt.outbox[1]))
    for change, why in (
        ({}, "seats 0 and 1 announce the same key"),
        ({"mask": bytes(32)}, "no proper point"),
        ({"mask": b"\x07" * 31}, "mask key of 31 bytes, expected 32"),
        ({"draw": b""}, "draw commitment of 0 bytes, expected 32"),
        ({"signature": bytes(64)}, "same key"),
        ({**fresh, "signature": body["signature"]}, "seat 1 did not sign the keys that it announces"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.tell("keys", 1, attempt.answer("keys", 1, {**body, **change}))


def test_attack_an_opening_of_the_wrong_secrets(fleet):
    attempt = fleet(terms=(8, 3, 10)).until("masked")
    attempt.hold("masked", absent=[4])
    attempt.hold("consistency")
    liar = next(s for s in graph_of(attempt).holders_of(4))
    body = attempt.body(attempt.ask(liar, attempt.outbox[liar]))
    for wrong in ({"seeds": body["seeds"][:-1]}, {"keys": []}, {"seeds": body["keys"], "keys": body["seeds"]}):
        with pytest.raises(ProtocolError, match=rf"seat {liar} opened seeds of .* expected .* and \[4\]"):
            attempt.tell("unmask", liar, attempt.answer("unmask", liar, {**body, **wrong}))


def survive_then_drop(fleet, csprng):
    """Take the victim's seed from round 1, where it survives, and its mask key from round 2, where it drops out."""
    first, second = (fleet(terms=(8, 3, 10), round=r, play_={"csprng": csprng}) for r in (1, 2))
    first.until("unmask").hold("unmask")
    second.until("masked").hold("masked", absent=[VICTIM])
    second.hold("consistency")
    second.hold("unmask")
    seeds, keys = (
        {s: share for s, f in a.heard["unmask"].items() for owner, share in a.body(f)[kind] if owner == VICTIM}
        for a, kind in ((first, "seeds"), (second, "keys"))
    )
    return first, seeds, keys


def test_attack_survive_then_drop(fleet, strip):
    attempt, seeds, keys = survive_then_drop(fleet, lambda seat: os.urandom)
    assert not (strip(attempt, seeds, keys) == attempt.vectors[VICTIM]).any()


def test_attack_survive_then_drop_succeeds_where_keys_are_used_again(fleet, strip):
    def repeating(seat):
        counter = itertools.count()
        return lambda n: (digest([seat, next(counter)]) * 2)[:n]

    attempt, seeds, keys = survive_then_drop(fleet, repeating)
    np.testing.assert_array_equal(strip(attempt, seeds, keys), attempt.vectors[VICTIM])
