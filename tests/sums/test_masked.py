import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode
from commonprior.errors import IdentityError, InputError, PolicyRefusal, ProtocolError
from commonprior.identity import verify
from commonprior.session import COORDINATOR, consistency_statement
from commonprior.sums import Aborted, Aggregate, Finished
from commonprior.sums._consistency import commit
from commonprior.sums._unmask import Secrets, unmask
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

PHASES = Masked.phases[1:]
HYPOTHESIS = settings(deadline=None, max_examples=40)


@HYPOTHESIS
@given(data=st.data())
def test_masked_equals_plain_bit_for_bit_whoever_drops_out_when(play, data):
    n = data.draw(st.integers(2, 7), "n")
    dropouts = data.draw(st.integers(0, (n - 1) // 2), "dropouts")
    width = data.draw(st.sampled_from([1, 2, 4, 8]), "width")
    length = data.draw(st.integers(1, 40), "length")
    seats = data.draw(st.permutations(range(n)), "seats")[: data.draw(st.integers(0, dropouts), "leaving")]
    leave = {seat: data.draw(st.sampled_from(PHASES), f"seat {seat} leaves in") for seat in seats}
    given_ = {"n": n, "length": length, "width": width, "dropouts": dropouts, "seed": 1}
    done = play(**given_).finish(leave)
    summed = [seat for seat in range(n) if leave.get(seat) not in ("keys", "shares", "masked")]
    assert isinstance(done, Aggregate)
    assert done.survivors == tuple(summed)
    plain = play(**given_, play={"sum": Plain()}).finish({s: "values" for s in range(n) if s not in summed})
    assert done.value.dtype == np.int64
    np.testing.assert_array_equal(done.value, plain.value)


def test_the_extreme_integers_of_every_party_do_not_wrap(play):
    for width, sign in itertools.product((1, 2, 4, 8), (-1, 1)):
        attempt = play(n=3, width=width)
        limit = attempt.session.encoding.limit
        for vector in attempt.vectors:
            vector[:] = sign * limit
        np.testing.assert_array_equal(attempt.finish().value, sign * 3 * limit)


def test_a_vector_longer_than_a_block_and_not_a_multiple_of_one(play):
    attempt = play(n=2, dropouts=0, length=70_001, width=2)
    np.testing.assert_array_equal(attempt.finish().value, sum(attempt.vectors))


@pytest.mark.parametrize("phase", PHASES)
def test_a_third_drops_out_in_any_phase(play, phase):
    attempt = play(n=10, dropouts=3)
    done = attempt.finish(dict.fromkeys((1, 4, 9), phase))
    stayed = [s for s in range(10) if s not in (1, 4, 9) or phase in ("consistency", "unmask")]
    assert done.survivors == tuple(stayed)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in stayed))


def test_thirds_that_drop_out_one_after_the_other(play):
    attempt = play(n=10, dropouts=3)
    done = attempt.finish({0: "shares", 5: "masked", 7: "consistency"})
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in (1, 2, 3, 4, 6, 7, 8, 9)))
    assert [seat for seat, _ in done.signatures] == [1, 2, 3, 4, 6, 8, 9]


@pytest.mark.parametrize("phase", PHASES)
def test_one_more_than_allowed_aborts_and_blames_nobody(play, phase):
    done = play(n=10, dropouts=3).finish(dict.fromkeys((1, 4, 6, 9), phase))
    assert done == Aborted(f"{phase}: 6 of 10 sites answered, expected at least 7")


def test_the_masked_vector_is_not_the_vector_and_differs_between_attempts(play):
    first, second = play(length=1000).until("consistency"), play(length=1000).until("consistency")
    words = [a.body(a.heard["masked"][2])["words"] for a in (first, second)]
    assert words[0] != words[1]
    plain = first.session.encoding.to_words(first.vectors[2])
    assert np.mean(np.frombuffer(words[0], plain.dtype) == plain) < 0.01


def test_the_aggregate_carries_what_the_record_needs(play):
    attempt = play(n=5)
    done = attempt.finish({3: "masked"})
    words, opened = done.parts[:4], Secrets.decode(done.parts[-1])
    assert done.commitments == tuple(commit(w) for w in words)
    assert done.statement == consistency_statement(attempt.session, (0, 1, 2, 4), done.commitments)
    assert len(done.signatures) == 4
    assert all(verify(attempt.session.key_of(s), signature, done.statement) for s, signature in done.signatures)
    total = unmask(attempt.session, dict(zip(done.survivors, words)), opened)
    np.testing.assert_array_equal(attempt.session.encoding.from_words(total), done.value)
    assert not set(opened.seeds) & set(opened.dropped)


def test_words_travel_at_the_encoding_s_width(play):
    for width in (1, 2, 4, 8):
        attempt = play(length=1000, width=width).until("consistency")
        assert 1000 * width < len(attempt.heard["masked"][0]) < 1000 * width + 300


@pytest.mark.parametrize("phase", PHASES)
def test_only_the_masked_input_is_written_down_before_it_leaves(play, phase):
    attempt = play().until(phase)
    step = attempt.parties[1].receive(COORDINATOR, attempt.outbox[1])
    assert bool(step.persist) == (phase == "masked")
    assert step.done == (Finished((0, 1, 2, 3)) if phase == "unmask" else None)
    if step.persist:
        record: Any = decode(step.persist)
        assert (record["session"], record["seat"]) == (attempt.session.hash, 1)
        assert record["commitment"] == commit(attempt.body(step.send[0][1])["words"])


@pytest.mark.parametrize("phase", PHASES)
def test_a_repeated_request_gets_identical_bytes(play, phase):
    attempt = play().until(phase)
    request = attempt.outbox[2]
    first = attempt.parties[2].receive(COORDINATOR, request)
    assert attempt.parties[2].receive(COORDINATOR, request) == first
    attempt.hold(phase)
    assert attempt.parties[2].receive(COORDINATOR, request) == first
    assert attempt.coordinator.receive(2, attempt.heard[phase][2]).done is None


@pytest.mark.parametrize("phase", PHASES)
def test_repeated_and_late_answers_change_nothing(play, phase):
    attempt = play(n=5).until(phase)
    late = attempt.ask(4, attempt.outbox[4])
    attempt.tell(phase, 0, attempt.ask(0, attempt.outbox[0]))
    attempt.tell(phase, 0, attempt.ask(0, attempt.outbox[0]))
    step = attempt.hold(phase, absent=[4])
    attempt.coordinator.receive(4, late)
    if step.done is None:
        following = PHASES[PHASES.index(phase) + 1]
        assert 4 not in attempt.outbox
        step = attempt.hold(following)
        while step.done is None:
            following = PHASES[PHASES.index(following) + 1]
            step = attempt.hold(following)
    stayed = range(5) if phase in ("consistency", "unmask") else range(4)
    np.testing.assert_array_equal(step.done.value, sum(attempt.vectors[s] for s in stayed))


def test_the_guard_sees_who_contributes_before_every_commitment_to_them(play):
    asked = []
    attempt = play(n=5, play={"guard": lambda seats: asked.append(seats)})
    attempt.finish({4: "shares"})
    everyone, four = frozenset(range(5)), frozenset(range(4))
    assert asked == [everyone] * 4 + [four] * 4 + [four] * 4


@pytest.mark.parametrize("phase", ["shares", "masked", "consistency"])
def test_a_guard_that_refuses_lets_nothing_out_and_changes_nothing(play, phase):
    refusing = False

    def guard(seats):
        if refusing:
            raise PolicyRefusal("too few whom this site trusts")

    attempt = play(play={"guard": guard}).until(phase)
    refusing = True
    with pytest.raises(PolicyRefusal):
        attempt.ask(1, attempt.outbox[1])
    refusing = False
    assert attempt.finish(start=phase).survivors == (0, 1, 2, 3)


def test_a_party_answers_in_order_only(play):
    attempt, done = play(), play(seed=3)
    done.finish()
    requests = {phase: attempt.request(phase, 0, None) for phase in PHASES}
    for phase in PHASES[1:]:
        with pytest.raises(ProtocolError, match=f"{phase} request to seat 0, which is fresh"):
            attempt.parties[0].receive(COORDINATOR, requests[phase])
    attempt.ask(0, requests["keys"])
    with pytest.raises(ProtocolError, match="which is released"):
        done.parties[0].receive(COORDINATOR, done.request("shares", 0, {"keys": []}))


def test_a_party_that_leaves_forgets_and_answers_nothing(play):
    attempt = play().until("unmask")
    left = attempt.parties[3].close("unmask")
    assert isinstance(left.done, Aborted)
    with pytest.raises(ProtocolError, match="has left"):
        attempt.parties[3].receive(COORDINATOR, attempt.outbox[3])
    assert attempt.finish({3: "unmask"}, start="unmask").survivors == (0, 1, 2, 3)


def test_only_the_coordinator_asks(play):
    attempt = play()
    forged = attempt.answer("keys", 1, None)
    with pytest.raises(ProtocolError, match="is for seat -1"):
        attempt.parties[0].receive(COORDINATOR, forged)
    attempt.until("keys")
    with pytest.raises(ProtocolError, match="only the coordinator asks"):
        attempt.parties[0].receive(1, attempt.outbox[0])


def test_what_does_not_fit_a_machine_is_refused_at_once(play, session, vectors, identities):
    given_ = session()
    with pytest.raises(IdentityError, match="does not sit on seat 1"):
        Masked().party(given_, 1, identities[0], vectors(given_)[0], bytes, lambda seats: None)
    with pytest.raises(IdentityError, match="not the session's coordinator"):
        Masked().coordinator(given_, identities[0])
    for wrong in (np.zeros(6, np.int64), np.zeros(5), np.zeros((5, 1), np.int64)):
        with pytest.raises(InputError, match="expected 5 integers of int64"):
            Masked().party(given_, 0, identities[0], wrong, bytes, lambda seats: None)


def test_an_integer_over_the_limit_never_leaves(play):
    attempt = play()
    attempt.vectors[1][3] = attempt.session.encoding.limit + 1
    with pytest.raises(InputError, match="over the encoding's limit"):
        attempt.until("consistency")


def test_phases_close_in_order_and_for_good(play):
    attempt = play()
    with pytest.raises(ProtocolError, match="'shares' cannot be closed while start is open"):
        attempt.coordinator.close("shares")
    attempt.until("shares")
    again = attempt.coordinator.close("keys")
    assert dict(again.send) == attempt.outbox
