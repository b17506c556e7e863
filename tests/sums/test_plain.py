import numpy as np
import pytest

from commonprior.errors import InputError, PolicyRefusal, ProtocolError
from commonprior.identity import verify
from commonprior.session import COORDINATOR, consistency_statement
from commonprior.sums import Aborted
from commonprior.sums._consistency import commit
from commonprior.sums.plain import Plain


@pytest.fixture
def plain(play):
    return lambda **changes: play(**changes, play={"sum": Plain()})


def test_it_says_what_it_shows_to_whom():
    assert "shows the coordinator every site's update" in Plain.insecure


def test_the_sum_and_a_record_of_the_same_shape_as_a_secure_one(plain):
    attempt = plain(n=5)
    done = attempt.finish({2: "values"})
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in (0, 1, 3, 4)))
    assert done.commitments == tuple(commit(part) for part in done.parts)
    assert done.statement == consistency_statement(attempt.session, done.survivors, done.commitments)
    assert all(verify(attempt.session.key_of(s), signature, done.statement) for s, signature in done.signatures)


@pytest.mark.parametrize("phase", ["values", "consistency"])
def test_too_few_answers_abort(plain, phase):
    assert plain().finish({0: phase, 1: phase}) == Aborted(f"{phase}: 2 of 4 sites answered, expected at least 3")


def test_a_party_signs_one_statement_over_its_own_bytes(plain):
    attempt = plain().until("consistency")
    body = attempt.body(attempt.outbox[1], 1)
    swapped = {**body, "commitments": body["commitments"][::-1]}
    with pytest.raises(ProtocolError, match="is not to the bytes that it sent"):
        attempt.ask(1, attempt.request("consistency", 1, swapped))
    attempt.ask(1, attempt.outbox[1])
    fewer = {"survivors": [0, 1, 2], "commitments": body["commitments"][:3]}
    with pytest.raises(ProtocolError, match="answers each phase once"):
        attempt.ask(1, attempt.request("consistency", 1, fewer))


def test_the_vector_is_written_down_before_it_leaves_and_repeats_are_identical(plain):
    attempt = plain().until("values")
    step = attempt.parties[0].receive(COORDINATOR, attempt.outbox[0])
    assert step.persist
    assert attempt.parties[0].receive(COORDINATOR, attempt.outbox[0]) == step


def test_a_guard_stops_the_vector_and_the_signature(play):
    asked = []

    def guard(seats):
        asked.append(seats)
        if len(seats) < 4:
            raise PolicyRefusal("too few")

    attempt = play(play={"sum": Plain(), "guard": guard}).until("values")
    attempt.hold("values", absent=[3])
    with pytest.raises(PolicyRefusal):
        attempt.ask(0, attempt.outbox[0])
    assert asked == [frozenset(range(4))] * 3 + [frozenset(range(3))]


def test_integers_that_do_not_fit_are_refused(session, identities):
    with pytest.raises(InputError, match="expected 5 integers"):
        Plain().party(session(), 0, identities[0], np.zeros(4, np.int64), bytes, lambda seats: None)


def test_a_signature_over_another_statement_does_not_count(plain):
    attempt = plain().until("consistency")
    signature = attempt.parties[1]._identity.sign(bytes(32))
    with pytest.raises(ProtocolError, match="seat 1 did not sign the statement"):
        attempt.tell("consistency", 1, attempt.answer("consistency", 1, {"signature": signature}))
