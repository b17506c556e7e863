"""Hostile bytes on a drawn graph: whatever arrives, a machine raises `ProtocolError`, and a sum is never wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode, encode
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.session import COORDINATOR
from commonprior.sums import Aggregate
from commonprior.sums import _fleet_messages as messages
from commonprior.sums._fleet_coordinator import FleetCoordinator
from commonprior.sums._fleet_packets import PACKET_BYTES, VOUCH_BYTES
from commonprior.sums._graph import Place, make_roll, write_places

PHASES = FleetCoordinator.phases[1:]
FUZZ = settings(deadline=None, max_examples=60)
TERMS = {"n": 5, "dropouts": 2, "terms": (3, 2, 3)}

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.binary(max_size=70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["seats", "words", "seeds"]), inner),
    max_leaves=6,
)


@st.composite
def damages(draw):
    """A way to change one field, leave it out, add one or flip a bit; drawn before the body, whose lengths vary."""
    which, at, bit = draw(st.integers(0, 9)), draw(st.integers(0, 2**20)), draw(st.integers(0, 7))
    kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "longer", "junk", "drop", "more"]))
    rubbish, tail = draw(junk), draw(st.binary(min_size=1, max_size=200))

    def damage(body):
        if not isinstance(body, dict) or not body:
            return rubbish
        name, copy = sorted(body)[which % len(body)], dict(body)
        value = body[name]
        match kind:
            case "flip" if isinstance(value, bytes) and value:
                place = at % len(value)
                copy[name] = value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]
            case "cut" if isinstance(value, bytes | list) and value:
                copy[name] = value[: at % len(value)]
            case "longer" if isinstance(value, bytes):
                copy[name] = value + tail
            case "drop":
                del copy[name]
            case "more":
                copy["more"] = None
            case _:
                copy[name] = rubbish
        return copy

    return damage


def survive(receive, *arguments):
    """Hand a machine what it should refuse; say whether it took it. No other error may come out."""
    try:
        return receive(*arguments).send
    except ProtocolError:
        return None


@FUZZ
@given(data=st.data())
def test_a_coordinator_s_signed_nonsense_is_refused_or_leaves_the_sum_right(fleet, data):
    phase, seat = data.draw(st.sampled_from(PHASES), "phase"), data.draw(st.integers(0, 4), "seat")
    attempt = fleet(**TERMS).until(phase)
    body = data.draw(damages(), "damage")(attempt.body(attempt.outbox[seat], seat))
    survive(attempt.parties[seat].receive, COORDINATOR, attempt.request(phase, seat, body))
    survive(attempt.parties[seat].receive, COORDINATOR, attempt.request(data.draw(st.sampled_from(PHASES)), seat, body))
    taken = survive(attempt.parties[seat].receive, COORDINATOR, attempt.outbox[seat])
    done = attempt.finish({} if taken else {seat: phase}, start=phase)
    if isinstance(done, Aggregate):
        np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


@FUZZ
@given(data=st.data())
def test_a_site_s_signed_nonsense_never_makes_a_wrong_sum(fleet, data):
    phase, seat = data.draw(st.sampled_from(PHASES), "phase"), data.draw(st.integers(0, 4), "seat")
    attempt = fleet(**TERMS).until(phase)
    answer = attempt.body(attempt.ask(seat, attempt.outbox[seat]))
    if phase == "masked":
        answer["words"] = b""
    body = data.draw(damages(), "damage")(answer)
    survive(attempt.coordinator.receive, seat, attempt.answer(phase, seat, body))
    done = attempt.finish({seat: phase}, start=phase)
    if isinstance(done, Aggregate):
        np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


HASH, BITS = bytes(32), b"\x05"
READERS = {
    "announcement": (
        messages.read_announcement,
        {"mask": HASH, "channel": HASH, "commitment": HASH, "draw": HASH, "signature": bytes(64)},
    ),
    "roll": (lambda body: messages.read_roll(body, 3), {"seats": BITS, "places": bytes(128), "signatures": bytes(128)}),
    "dealing": (
        lambda body: messages.read_dealing(body, 2),
        {"contribution": HASH, "packets": bytes(2 * PACKET_BYTES)},
    ),
    "delivery": (
        lambda body: messages.read_delivery(body, 3),
        {
            "dealers": BITS,
            "contributions": bytes(64),
            "keys": bytes(64),
            "packets": bytes(PACKET_BYTES),
        },
    ),
    "masked": (lambda body: messages.read_masked(body, 20, 2), {"words": bytes(20), "vouches": bytes(2 * VOUCH_BYTES)}),
    "proposal": (
        lambda body: messages.read_proposal(body, 3),
        {"survivors": BITS, "hashes": bytes(64), "vouches": bytes(VOUCH_BYTES)},
    ),
    "signatures": (lambda body: messages.read_signatures(body, 3), {"signers": BITS, "signatures": bytes(128)}),
}
READER = pytest.mark.parametrize(("read", "body"), READERS.values(), ids=READERS)


@READER
@FUZZ
@given(value=junk)
def test_every_reader_refuses_junk_in_one_way(read, body, value):
    with pytest.raises(MalformedMessage):
        read(value)


@READER
def test_every_reader_takes_exactly_its_fields_and_sizes(read, body):
    assert read(body)
    for wrong in ({**body, "more": None}, *({k: v for k, v in body.items() if k != name} for name in body)):
        with pytest.raises(MalformedMessage):
            read(wrong)
    for name, value in body.items():
        for wrong in (value[:-1], value + b"\0"):
            with pytest.raises(MalformedMessage, match=f"of {len(wrong)} bytes, expected"):
                read({**body, name: wrong})


@given(st.integers(1, 70), st.data())
def test_seats_travel_as_bits(parties, data):
    seats = sorted(data.draw(st.sets(st.integers(0, parties - 1))))
    bits = messages.write_seats(seats, parties)
    assert list(messages.read_seats("seats", bits, parties)) == seats
    assert len(bits) == -(-parties // 8)
    assert [i for i in range(8 * len(bits)) if bits[i // 8] >> i % 8 & 1] == seats


@pytest.mark.parametrize(
    ("bits", "why"), [(b"\x08", "seat 3 is none of 3"), (b"", "of 0 bytes"), (b"\1\0", "of 2 bytes")]
)
def test_bits_beyond_the_roster_are_refused(bits, why):
    with pytest.raises(MalformedMessage, match=why):
        messages.read_seats("roll", bits, 3)


def test_what_is_written_is_read_back(session):
    places = {2: Place(b"\2" * 32, b"\3" * 32), 0: Place(b"\0" * 32, b"\1" * 32)}
    roll = make_roll(session(), [0, 2], write_places(places))
    signatures = {2: b"\2" * 64, 0: b"\0" * 64}
    seats, lines, signed = messages.read_roll(decode(encode(messages.write_roll(roll, signatures, 3))), 3)
    assert (make_roll(session(), seats, lines), signed) == (roll, signatures)
    assert [roll.place(seat) for seat in range(-1, 4)] == [None, places[0], None, places[2], None]
    assert roll.channels() == [roll.channel(0), roll.channel(2)] == [b"\0" * 32, b"\2" * 32]
    assert messages.read_signatures(decode(encode(messages.write_signatures(signatures, 3))), 3) == signatures
    proposal = messages.read_proposal(messages.write_proposal({1: HASH, 2: b"\1" * 32}, 3, [b"\4" * 32]), 3)
    assert proposal == ({1: HASH, 2: b"\1" * 32}, (b"\4" * 32,))
