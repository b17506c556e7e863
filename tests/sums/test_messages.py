"""Hostile bytes: whatever arrives, a machine raises `ProtocolError` and goes on, and a sum is never wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode, encode
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.session import COORDINATOR
from commonprior.sums import Aggregate
from commonprior.sums import _messages as messages
from commonprior.sums._bodies import write_by_seat
from commonprior.sums._unmask import Secrets
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

PHASES = Masked.phases[1:]
KINDS = {"masked": Masked(), "plain": Plain()}
FUZZ = settings(deadline=None, max_examples=40)

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.binary(max_size=70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["keys", "seeds", "own"]), inner),
    max_leaves=6,
)


@st.composite
def mutated(draw, value):
    """A value with one thing in it wrong."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        at = draw(st.sampled_from(list(keys)))
        copy: Any = value.copy()
        match draw(st.sampled_from(["change", "change", "change", "drop", "again"])):
            case "change":
                copy[at] = draw(mutated(value[at]))
            case "drop":
                del copy[at]
            case "again" if isinstance(copy, list):
                copy.append(copy[at])
            case _:
                copy["more"] = copy[at]
        return copy
    if isinstance(value, bytes) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return draw(st.sampled_from([value[:at], value + b"\0", value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]]))
    if type(value) is int and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1, 2**40]))
    return draw(junk)


def pieces(kind, data):
    return kind, data.draw(st.sampled_from(kind.phases[1:]), "phase"), data.draw(st.integers(0, 2), "seat")


def survive(receive, *arguments):
    """Hand a machine what it should refuse; say whether it took it. No other error may come out."""
    try:
        return receive(*arguments).send
    except ProtocolError:
        return None


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_a_damaged_frame_is_refused_and_changes_nothing(play, kind, data):
    kind, phase, seat = pieces(KINDS[kind], data)
    attempt = play(n=3, dropouts=1, play={"sum": kind}).until(phase)
    for machine, sender, frame in (
        (attempt.parties[seat], COORDINATOR, attempt.outbox[seat]),
        (attempt.coordinator, seat, attempt.ask(seat, attempt.outbox[seat])),
    ):
        cut = data.draw(st.integers(0, len(frame) - 1))
        flipped = frame[:cut] + bytes([frame[cut] ^ data.draw(st.integers(1, 255))]) + frame[cut + 1 :]
        for bad in (frame[:cut], flipped, frame + b"\0", data.draw(st.binary(max_size=40))):
            with pytest.raises(ProtocolError):
                machine.receive(sender, bad)
    done = attempt.finish(start=phase)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors))


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_a_coordinator_s_signed_nonsense_is_refused_and_changes_nothing(play, kind, data):
    kind, phase, seat = pieces(KINDS[kind], data)
    attempt = play(n=3, dropouts=1, play={"sum": kind}).until(phase)
    body = data.draw(mutated(attempt.body(attempt.outbox[seat], seat)), "body")
    if survive(attempt.parties[seat].receive, COORDINATOR, attempt.request(phase, seat, body)) is None:
        assert isinstance(attempt.finish(start=phase), Aggregate)
    other = data.draw(st.sampled_from(kind.phases), "other phase")
    survive(attempt.parties[seat].receive, COORDINATOR, attempt.request(other, seat, data.draw(junk)))


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_a_site_s_signed_nonsense_never_makes_a_wrong_sum(play, kind, data):
    kind, phase, seat = pieces(KINDS[kind], data)
    attempt = play(n=3, dropouts=1, play={"sum": kind}).until(phase)
    answer = attempt.body(attempt.ask(seat, attempt.outbox[seat]))
    if phase in ("masked", "values"):
        answer["words"] = b""
    body = data.draw(mutated(answer), "body")
    survive(attempt.coordinator.receive, seat, attempt.answer(phase, seat, body))
    done = attempt.finish({seat: phase}, start=phase)
    if isinstance(done, Aggregate):
        np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


HASH, KEY, SIGNATURE, SHARE = bytes(32), bytes(32), bytes(64), bytes(33)
READERS = {
    "keys": (messages.read_public_keys, {"mask": KEY, "channel": KEY, "commitment": HASH}),
    "keys relay": (lambda body: messages.read_key_frames(body, 3), {"keys": [b"", b"a", b"b"]}),
    "dealing": (lambda body: messages.read_dealing(body, 3), {"packets": [[0, b"a"], [2, b""]], "own": HASH}),
    "packet": (lambda body: messages.read_packet(body, 114), {"sealed": bytes(114), "seed": HASH, "key": HASH}),
    "packets relay": (lambda body: messages.read_packet_frames(body, 3), {"packets": [[1, b"a"], [2, b"b"]]}),
    "masked": (lambda body: messages.read_masked(body, 3, 20), {"peers": [0, 2], "words": bytes(20)}),
    "values": (lambda body: messages.read_values(body, 20), {"words": bytes(20)}),
    "survivors": (lambda body: messages.read_survivors(body, 3), {"survivors": [0, 1], "commitments": [HASH, HASH]}),
    "signature": (messages.read_signature, {"signature": SIGNATURE}),
    "signatures": (lambda body: messages.read_signatures(body, 3), {"signatures": [[0, SIGNATURE], [2, SIGNATURE]]}),
    "opening": (lambda body: messages.read_opening(body, 3), {"seeds": [[0, SHARE], [1, b""]], "keys": [[2, SHARE]]}),
    "secrets": (
        lambda body: Secrets.decode(encode(body)),
        {"seeds": [[0, b"a"]], "dropped": [], "mask_keys": [], "peers": []},
    ),
}
READER = pytest.mark.parametrize(("read", "body"), READERS.values(), ids=READERS)


@READER
@FUZZ
@given(value=junk)
def test_every_reader_refuses_junk_in_one_way(read, body, value):
    with pytest.raises(MalformedMessage):
        read(value)


@READER
def test_every_reader_takes_exactly_its_fields(read, body):
    assert read(body)
    for wrong in ({**body, "more": None}, *({k: v for k, v in body.items() if k != name} for name in body)):
        with pytest.raises(MalformedMessage):
            read(wrong)


@READER
def test_every_reader_takes_exact_sizes(read, body):
    for name, value in body.items():
        if isinstance(value, bytes):
            for wrong in (value[:-1], value + b"\0", b""):
                with pytest.raises(MalformedMessage, match=f"of {len(wrong)} bytes, expected {len(value)}"):
                    read({**body, name: wrong})


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("keys relay", {"keys": [b""] * 4}, "at most 3 frames"),
        ("keys relay", {"keys": [None]}, "expected bytes, got NoneType"),
        ("survivors", {"commitments": [HASH]}, "2 survivors with 1 commitments"),
        ("survivors", {"commitments": [HASH, b""]}, "commitment of 0 bytes, expected 32"),
        ("signatures", {"signatures": [[0, b""]]}, "signature of 0 bytes, expected 64"),
        ("opening", {"keys": [[2, b"a"]]}, "share of 1 bytes, expected 33"),
        ("dealing", {"packets": [[0]]}, r"expected \[seat, bytes\]"),
    ],
)
def test_what_is_inside_a_list_is_read_as_strictly(name, change, why):
    read, body = READERS[name]
    with pytest.raises(MalformedMessage, match=why):
        read({**body, **change})


@pytest.mark.parametrize(("kind", "phase"), [("masked", "keys"), ("plain", "values")])
def test_a_request_that_says_nothing_has_no_body(play, kind, phase):
    attempt = play(play={"sum": KINDS[kind]}).until(phase)
    with pytest.raises(MalformedMessage, match=f"a {phase} request has no body"):
        attempt.ask(0, attempt.request(phase, 0, {}))
    assert attempt.ask(0, attempt.outbox[0])


@pytest.mark.parametrize(
    ("seats", "why"),
    [
        ([1, 0], "seat 0 after seat 1; expected them ascending, each once"),
        ([1, 1], "seat 1 after seat 1"),
        ([3], "3 is no seat of 3"),
        ([-1], "-1 is no seat of 3"),
        ([True], "True is no seat of 3"),
        (["0"], "'0' is no seat of 3"),
    ],
)
def test_seats_are_ascending_and_of_the_roster(seats, why):
    with pytest.raises(MalformedMessage, match=why):
        messages.read_masked({"peers": seats, "words": bytes(4)}, 3, 4)
    with pytest.raises(MalformedMessage):
        messages.read_signatures({"signatures": [[seat, bytes(64)] for seat in seats]}, 3)


def test_what_is_written_by_seat_is_read_back():
    shares = {2: b"\1" * 33, 0: b""}
    body = {"seeds": write_by_seat(shares), "keys": write_by_seat({})}
    assert messages.read_opening(decode(encode(body)), 3) == (shares, {})
    secrets = Secrets({0: b"a"}, {2: b"b"}, {0: b"c", 1: b"d"}, {2: b"\x03"})
    assert Secrets.decode(secrets.encode()) == secrets
