"""The masked sum on a drawn graph: the same sums as everybody's, whoever drops out when, from fewer neighbours."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode
from commonprior.errors import PolicyRefusal, ProtocolError, RecipeError
from commonprior.identity import verify
from commonprior.session import COORDINATOR
from commonprior.sums import Aborted, Aggregate, Finished
from commonprior.sums._fleet_coordinator import FleetCoordinator
from commonprior.sums._fleet_packets import commit_words
from commonprior.sums._fleet_party import FleetParty
from commonprior.sums._masked_coordinator import MaskedCoordinator
from commonprior.sums._unmask import Secrets, unmask
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

PHASES = FleetCoordinator.phases[1:]
EARLY = ("keys", "shares", "masked")
HYPOTHESIS = settings(deadline=None, max_examples=40)


def few_holders(done):
    return isinstance(done, Aborted) and "holders that it drew" in done.reason and not done.culprits


@HYPOTHESIS
@given(data=st.data())
def test_it_equals_plain_bit_for_bit_whoever_drops_out_when(play, fleet, data):
    n = data.draw(st.integers(4, 13), "n")
    dropouts = data.draw(st.integers(0, (n - 1) // 2), "dropouts")
    holders = data.draw(st.integers(1, n - dropouts - 1), "holders")
    threshold = data.draw(st.integers(1, holders), "threshold")
    width, length = data.draw(st.sampled_from([1, 2, 4, 8]), "width"), data.draw(st.integers(1, 40), "length")
    seats = data.draw(st.permutations(range(n)), "seats")[: data.draw(st.integers(0, dropouts), "leaving")]
    leave = {seat: data.draw(st.sampled_from(PHASES), f"seat {seat} leaves in") for seat in seats}
    given_ = {"n": n, "length": length, "width": width, "dropouts": dropouts, "seed": 1}
    done = fleet(terms=(holders, threshold, n - dropouts), **given_).finish(leave)
    if few_holders(done) or (isinstance(done, Aborted) and "shares of seat" in done.reason):
        return
    summed = [seat for seat in range(n) if leave.get(seat) not in EARLY]
    assert isinstance(done, Aggregate)
    assert done.survivors == tuple(summed)
    plain = play(**given_, play={"sum": Plain()}).finish({s: "values" for s in range(n) if s not in summed})
    assert done.value.dtype == np.int64
    np.testing.assert_array_equal(done.value, plain.value)


@pytest.mark.parametrize("phase", PHASES)
def test_the_allowed_dropouts_leave_in_any_phase(fleet, phase):
    attempt = fleet(terms=(7, 3, 10), length=200)
    done = attempt.finish(dict.fromkeys((1, 8), phase))
    stayed = [s for s in range(12) if s not in (1, 8) or phase not in EARLY]
    assert done.survivors == tuple(stayed)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in stayed))


@pytest.mark.parametrize("phase", PHASES)
def test_one_more_than_allowed_aborts_and_blames_nobody(fleet, phase):
    done = fleet(terms=(8, 2, 10)).finish(dict.fromkeys((1, 4, 9), phase))
    assert done == Aborted(f"{phase}: 9 of 12 sites answered, expected at least 10")


def test_a_site_that_lost_too_many_holders_ends_the_attempt(fleet):
    for _ in range(3):
        done = fleet(terms=(8, 8, 10)).finish({3: "masked"})  # nobody drew it: once in 10^6
        assert few_holders(done)
        assert "masked: seat" in done.reason


def test_a_survivor_whose_seed_nobody_opens_ends_the_attempt(fleet):
    done = fleet(terms=(8, 8, 10)).finish({3: "unmask"})
    assert isinstance(done, Aborted)
    assert "unmask: 7 shares of seat" in done.reason


def test_above_fifty_sites_neighbours_are_drawn_and_the_recipe_says_nothing(play, organiser):
    attempt = play(n=51, dropouts=5, colluders=5)
    assert isinstance(attempt.coordinator, FleetCoordinator)
    assert all(isinstance(party, FleetParty) for party in attempt.parties)
    done = attempt.finish({3: "keys", 8: "shares", 20: "masked", 21: "consistency", 50: "unmask"})
    summed = [s for s in range(51) if s not in (3, 8, 20)]
    assert done.survivors == tuple(summed)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in summed))
    fifty = play(n=50, dropouts=5, colluders=5)
    assert isinstance(fifty.coordinator, MaskedCoordinator)
    with pytest.raises(RecipeError, match="attempt 16 at round 1: neighbours are drawn for at most 16 attempts"):
        Masked().coordinator(dataclasses.replace(attempt.session, attempt=16), organiser)


def test_the_aggregate_carries_what_the_record_needs(fleet):
    attempt = fleet(terms=(7, 3, 10))
    done = attempt.finish({3: "masked", 5: "masked"})
    *words, opened, view = done.parts
    secrets = Secrets.decode(opened)
    hashes = {s: hashlib.sha256(w).digest() for s, w in zip(done.survivors, words, strict=True)}
    assert done.commitments == tuple(commit_words(view, hashes).values())
    assert len(done.signatures) == 10
    assert all(verify(attempt.session.key_of(s), signature, done.statement) for s, signature in done.signatures)
    total = unmask(attempt.session, dict(zip(done.survivors, words, strict=True)), secrets)
    np.testing.assert_array_equal(attempt.session.encoding.from_words(total), done.value)
    assert set(secrets.dropped) == {3, 5}
    assert not set(secrets.seeds) & set(secrets.dropped)


def test_the_masked_vector_is_not_the_vector_and_differs_between_attempts(fleet):
    first, second = (fleet(length=1000).until("consistency") for _ in range(2))
    words = [a.body(a.heard["masked"][2])["words"] for a in (first, second)]
    assert words[0] != words[1]
    plain = first.session.encoding.to_words(first.vectors[2])
    assert np.mean(np.frombuffer(words[0], plain.dtype) == plain) < 0.01


@pytest.mark.parametrize("phase", PHASES)
def test_only_the_masked_input_is_written_down_before_it_leaves(fleet, phase):
    attempt = fleet().until(phase)
    step = attempt.parties[1].receive(COORDINATOR, attempt.outbox[1])
    assert bool(step.persist) == (phase == "masked")
    assert step.done == (Finished(tuple(range(12))) if phase == "unmask" else None)
    if step.persist:
        record: Any = decode(step.persist)
        assert (record["session"], record["seat"]) == (attempt.session.hash, 1)


@pytest.mark.parametrize("phase", PHASES)
def test_a_repeated_request_gets_identical_bytes(fleet, phase):
    attempt = fleet().until(phase)
    request = attempt.outbox[2]
    first = attempt.parties[2].receive(COORDINATOR, request)
    assert attempt.parties[2].receive(COORDINATOR, request) == first
    attempt.hold(phase)
    assert attempt.parties[2].receive(COORDINATOR, request) == first
    assert attempt.coordinator.receive(2, attempt.heard[phase][2]).done is None


@pytest.mark.parametrize("phase", PHASES)
def test_repeated_and_late_answers_change_nothing(fleet, phase):
    attempt = fleet(terms=(8, 3, 10)).until(phase)
    late = attempt.ask(4, attempt.outbox[4])
    for _ in range(2):
        attempt.tell(phase, 0, attempt.ask(0, attempt.outbox[0]))
    step = attempt.hold(phase, absent=[4])
    attempt.coordinator.receive(4, late)
    done = step.done or attempt.finish(start=PHASES[PHASES.index(phase) + 1])
    stayed = [s for s in range(12) if s != 4 or phase not in EARLY]
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in stayed))


@pytest.mark.parametrize("phase", PHASES)
def test_a_coordinator_goes_on_after_a_restart_in_any_phase(fleet, phase):
    attempt = fleet(terms=(8, 3, 10)).until(phase)
    sent = dict(attempt.outbox)
    attempt.tell(phase, 2, attempt.ask(2, attempt.outbox[2]))
    attempt.coordinator = attempt.sum.coordinator(attempt.session, attempt.coordinator._identity, attempt.log)
    earlier = FleetCoordinator.phases[PHASES.index(phase)]
    assert dict(attempt.coordinator.close(earlier).send) == sent
    done = attempt.finish({1: phase}, start=phase)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))
    frames = [(seat, record) for seat, record in attempt.log if seat != COORDINATOR]
    again = attempt.sum.coordinator(attempt.session, attempt.coordinator._identity, frames).close("unmask").done
    np.testing.assert_array_equal(again.value, done.value)
    assert again[1:] == done[1:]


def test_the_guard_sees_who_contributes_before_every_commitment_to_them(fleet):
    asked = []
    attempt = fleet(terms=(8, 3, 10), play_={"guard": asked.append})
    attempt.finish({4: "shares", 5: "masked"})
    everyone = frozenset(range(12))
    assert asked == [everyone] * 11 + [everyone - {4}] * 10 + [everyone - {4, 5}] * 10


@pytest.mark.parametrize("phase", ["shares", "masked", "consistency"])
def test_a_guard_that_refuses_lets_nothing_out_and_changes_nothing(fleet, phase):
    refusing = False

    def guard(seats):
        if refusing:
            raise PolicyRefusal("too few whom this site trusts")

    attempt = fleet(play_={"guard": guard}).until(phase)
    refusing = True
    with pytest.raises(PolicyRefusal):
        attempt.ask(1, attempt.outbox[1])
    refusing = False
    assert attempt.finish(start=phase).survivors == tuple(range(12))


def test_a_party_answers_in_order_only(fleet):
    attempt = fleet()
    for phase in PHASES[1:]:
        with pytest.raises(ProtocolError, match=f"{phase} request to seat 0, which is fresh"):
            attempt.ask(0, attempt.request(phase, 0, None))
    attempt.until("unmask").hold("unmask")
    with pytest.raises(ProtocolError, match="which is released"):
        attempt.ask(0, attempt.request("shares", 0, {}))


def test_fewer_neighbours_than_the_bounds_need_are_refused_with_the_numbers(session, vectors, identities, organiser):
    made, kind = session(n=13, dropouts=2), Masked(neighbours=4)
    why = "sum.neighbours = 4 of 13 sites, of whom 2 may drop out and 0 collude: expected at least 7"
    with pytest.raises(RecipeError, match=why):
        kind.check(made)
    with pytest.raises(RecipeError, match=why):
        kind.coordinator(made, organiser)
    with pytest.raises(ProtocolError, match=why):
        kind.party(made, 0, identities[0], vectors(made)[0], bytes, lambda seats: None)
    with pytest.raises(RecipeError, match="neighbours = -1: expected how many"):
        Masked(neighbours=-1)
    assert isinstance(Masked(neighbours=8).coordinator(made, organiser), FleetCoordinator)
