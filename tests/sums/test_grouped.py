"""Sums by groups: the draw, the refusals, what the record lets an outsider recompute, and what the median bounds."""

import dataclasses
import itertools
import math
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from commonprior.aggregation import combined
from commonprior.canonical import decode
from commonprior.errors import PolicyRefusal, ProtocolError, RecipeError
from commonprior.frame import open_frame
from commonprior.identity import verify
from commonprior.session import COORDINATOR, Encoding, Member, consistency_statement
from commonprior.sums import Aborted, Aggregate
from commonprior.sums._groups import Grouping, commitment_of, groups_of, sizes
from commonprior.sums._phases import Reply
from commonprior.sums._unmask import Secrets, unmask
from commonprior.sums.committee import Committee
from commonprior.sums.grouped import COMMIT, REVEAL, Grouped, _GroupedCoordinator, _GroupedParty
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

THREE = Grouped(3, Masked())


@pytest.fixture
def grouped(play):
    def make(kind=THREE, n=9, dropouts=0, seed=0, **arguments):
        return play(n=n, dropouts=dropouts, seed=seed, play={"sum": kind, **arguments})

    return make


def held_groups(attempt):
    return groups_of(attempt.session, attempt.sum.grouping, attempt.coordinator._draw)


@pytest.mark.parametrize("kind", [THREE, Grouped(3, Plain()), Grouped(3, Committee(), "trimmed_mean", trim=1)],
                         ids=["masked", "plain", "committee"])  # fmt: skip
def test_each_group_sums_its_own_and_signs_for_it(kind, grouped, play):
    attempt = grouped(kind)
    if isinstance(kind.of, Committee):
        small = [np.clip(v, -(2**20), 2**20) for v in attempt.vectors]
        session = dataclasses.replace(
            attempt.session, encoding=dataclasses.replace(attempt.session.encoding, limit=2**20)
        )
        attempt = play(session, play={"sum": kind, "vectors": small})
    done = attempt.finish()
    assert isinstance(done, Aggregate)
    groups = groups_of(attempt.session, kind.grouping, done.draw)
    assert sorted(seat for group in groups for seat in group.seats) == list(range(9))
    assert done.value.shape == (3, attempt.session.length)
    signatures, commitments = dict(done.signatures), dict(zip(done.survivors, done.commitments))
    for group, total in zip(groups, done.value, strict=True):
        np.testing.assert_array_equal(total, sum(attempt.vectors[seat] for seat in group.seats))
        statement = consistency_statement(group.session, range(3), [commitments[seat] for seat in group.seats])
        assert all(verify(attempt.session.key_of(seat), signatures[seat], statement) for seat in group.seats)


def test_the_parts_of_a_group_give_its_sum_again(grouped):
    attempt = grouped()
    done = attempt.finish()
    for group, total, parts in zip(groups_of(attempt.session, THREE.grouping, done.draw), done.value, done.parts):
        inner = decode(parts)
        words, opened = inner[:3], inner[-1]  # three sites' vectors, what they announced, what was opened
        again = unmask(group.session, dict(enumerate(words)), Secrets.decode(opened))
        np.testing.assert_array_equal(group.session.encoding.from_words(again), total)


def test_a_group_bears_its_dropouts_and_no_more(grouped):
    kind = Grouped(3, Masked(), dropouts=1)
    attempt = grouped(kind, n=13, dropouts=2).until("masked")
    first, second, *_ = held_groups(attempt)[0].seats
    done = attempt.finish({first: "masked"}, start="masked")
    assert first not in done.survivors
    assert len(done.survivors) == 12
    attempt = grouped(kind, n=13, dropouts=2).until("masked")
    first, second, *_ = held_groups(attempt)[0].seats
    done = attempt.finish({first: "masked", second: "masked"}, start="masked")
    assert isinstance(done, Aborted)
    assert "group 0 of 3: masked: " in done.reason


def test_who_misses_the_draw_is_in_no_group(grouped):
    attempt = grouped(n=13, dropouts=1)
    done = attempt.finish({4: COMMIT})
    groups = groups_of(attempt.session, THREE.grouping, done.draw)
    assert 4 not in {seat for group in groups for seat in group.seats}
    assert sorted(len(group.seats) for group in groups) == [4, 4, 4]
    assert all(group.session.dropouts == 0 for group in groups), "the one that the schedule allows is gone already"


def test_who_does_not_show_its_draw_ends_the_attempt_and_is_named(grouped):
    done = grouped(n=13, dropouts=1).finish({4: REVEAL})
    assert isinstance(done, Aborted)
    assert done.reason == "group-reveal: seats [4] committed to a draw and did not show it"


def test_a_restarted_coordinator_comes_to_the_same_sum(grouped):
    attempt = grouped()
    done = attempt.finish()
    again = attempt.sum.coordinator(attempt.session, attempt.coordinator._identity, attempt.log)
    np.testing.assert_array_equal(again._done.value, done.value)
    assert again._done[1:] == done[1:]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(9, 13), groups=st.sampled_from([3]))
def test_groups_part_the_roster_and_follow_from_the_draw(seed, n, groups, session):
    whole, rng = session(n=n), np.random.default_rng(seed)
    draw = tuple((seat, rng.bytes(32)) for seat in range(n))
    parts = groups_of(whole, Grouping(groups), draw)
    assert sorted(seat for part in parts for seat in part.seats) == list(range(n))
    assert [len(part.seats) for part in parts] == sizes(n, groups)
    assert groups_of(whole, Grouping(groups), draw) == parts
    assert len({part.session.hash for part in parts} | {whole.hash}) == groups + 1
    other = groups_of(whole, Grouping(groups), ((0, bytes(32)), *draw[1:]))
    assert {part.session.hash for part in other}.isdisjoint(part.session.hash for part in parts)


def test_a_draw_that_cannot_be_is_refused(session):
    whole, nonce = session(n=9, dropouts=0), bytes(32)
    good = tuple((seat, nonce) for seat in range(9))
    for bad in ((), good[:-1], good[::-1], (*good[:-1], (9, nonce)), (*good[:-1], (8, b"short")), (*good, good[-1])):
        with pytest.raises(ProtocolError, match="draw|reveals 5 bytes"):
            groups_of(whole, Grouping(3), bad)
    with pytest.raises(ProtocolError, match="everyone is in one sum"):
        groups_of(whole, Grouping(), good)


def test_every_pair_is_as_likely_to_share_a_group(session):
    """Each of C(9, 2) pairs does with probability 2/8; within 5 standard deviations over 1,500 draws."""
    whole, rng, together = session(n=9), np.random.default_rng(1), np.zeros((9, 9))
    draws = 1500
    for _ in range(draws):
        for group in groups_of(whole, Grouping(3), tuple((seat, rng.bytes(32)) for seat in range(9))):
            for a, b in itertools.combinations(group.seats, 2):
                together[a, b] += 1
    counts = together[np.triu_indices(9, 1)]
    assert np.abs(counts / draws - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / draws)


# What the median and the trimmed mean promise.


@settings(max_examples=300, deadline=None)
@given(data=st.data(), groups=st.sampled_from([3, 5, 7, 9]), trimmed=st.booleans())
def test_the_result_lies_within_the_honest_groups_means(data, groups, trimmed):
    trim = data.draw(st.integers(1, (groups - 1) // 2)) if trimmed else 0
    grouping = Grouping(groups, "trimmed_mean" if trimmed else "median", trim)
    numbers = st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1e300, -1e300])
    means = data.draw(hnp.arrays(np.float64, (groups, 4), elements=numbers))
    bad = data.draw(st.sets(st.integers(0, groups - 1), max_size=grouping.tolerated))
    honest = np.delete(means, sorted(bad), axis=0)
    result = combined(grouping, means)
    assert np.all(honest.min(0) <= result)
    assert np.all(result <= honest.max(0))
    order = data.draw(st.permutations(range(groups)))
    assert combined(grouping, means[order]).tobytes() == result.tobytes(), "the order of the groups is nobody's choice"


def test_median_and_trimmed_mean_are_numpys_and_scipys():
    from scipy.stats import trim_mean

    means = np.random.default_rng(0).normal(size=(7, 50))
    np.testing.assert_array_equal(combined(Grouping(7), means), np.median(means, axis=0))
    ours = combined(Grouping(7, "trimmed_mean", 2), means)
    np.testing.assert_allclose(ours, trim_mean(means, 2 / 7 + 1e-9, axis=0), rtol=1e-13)
    np.testing.assert_array_equal(combined(Grouping(), means[:1]), means[0])


def test_more_bad_groups_than_promised_move_the_result_at_will():
    means = np.zeros((5, 1))
    for bad, moved in ((2, 0.0), (3, 1e9)):
        means[:bad] = 1e9
        assert combined(Grouping(5), means)[0] == moved
        assert (combined(Grouping(5, "trimmed_mean", 2), means)[0] > 0) == (bad == 3)


# What is refused, and with which numbers.


@pytest.mark.parametrize(("fields", "words"), [
    ({"groups": 4}, "sum.groups = 4 for a median.*take 3 or 5"),
    ({"groups": 2}, "sum.groups = 2: expected at least 3"),
    ({"groups": 5, "trim": 1}, "nothing to trim"),
    ({"groups": 4, "combine": "trimmed_mean", "trim": 2}, "sum.trim = 2 of 4 groups: expected 1 to 1"),
    ({"groups": 4, "combine": "trimmed_mean"}, "sum.trim = 0 of 4 groups"),
    ({"groups": 3, "combine": "mode"}, "expected 'median' or 'trimmed_mean'"),
    ({"groups": 3, "dropouts": -1}, "sum.dropouts = -1"),
    ({"groups": 3, "minimum_cohort": 1}, "a group of one hides nothing"),
    ({"groups": 3, "of": THREE}, "grouped itself"),
])  # fmt: skip
def test_fields_that_make_no_sense(fields, words):
    with pytest.raises(RecipeError, match=words):
        Grouped(**{"of": Masked(), **fields})


@pytest.mark.parametrize(("n", "dropouts", "colluders", "fields", "need"), [
    (8, 0, 0, {}, "have 2 sites each.*at least 3 a group, 9 sites"),
    (11, 1, 0, {}, "have 3 sites each, of which 1 may drop out.*at least 4 a group, 12 sites"),
    (14, 0, 2, {}, "have 4 sites each.* 2 collude: expected at least 5 a group, 15 sites"),
    (17, 3, 0, {"minimum_cohort": 2}, "17 sites have 5 sites each, of which 3.*at least 7 a group"),
    (17, 3, 0, {"minimum_cohort": 2, "dropouts": 1}, None),
    (26, 3, 1, {"minimum_cohort": 4}, None),
])  # fmt: skip
def test_too_few_sites_are_refused_with_numbers(n, dropouts, colluders, fields, need, session):
    members = tuple(Member(str(i), i.to_bytes(32, "big")) for i in range(n))
    whole = dataclasses.replace(
        session(), roster=members, dropouts=dropouts, colluders=colluders, encoding=Encoding(n, 0, 1000, 4)
    )
    kind = Grouped(3, Masked(), **fields)
    if need is None:
        kind.grouping.require(whole, kind.minimum_cohort)
        for gone in range(dropouts + 1):
            draw = tuple((seat, bytes(32)) for seat in range(n - gone))
            for group in groups_of(whole, kind.grouping, draw):
                assert group.session.threshold - colluders >= kind.minimum_cohort
                assert group.session.threshold >= kind.grouping.least(n, dropouts)
    else:
        with pytest.raises(RecipeError, match=need):
            kind.grouping.require(whole, kind.minimum_cohort)


def test_the_probability_of_a_repeat_is_what_counting_gives():
    """All 3 of 9 sites that drop out, enumerated: C(9, 3) = 84 ways, 27 of them one a group."""
    for spare, fails in ((0, 84), (1, 84 - 27), (2, 3), (3, 0)):
        assert Grouping(3, dropouts=spare).repeated(9, 3) == Fraction(fails, 84)
    assert Grouping(3).repeated(9, 3) == 0
    assert Grouping(3, dropouts=0).repeated(9, 0) == 0


# Attacks.


def test_attack_sybils_in_a_chosen_group(grouped):
    """The coordinator has seats 5 to 8 and wants two of them beside the victim: it may choose neither what they show
    last, nor whose commitments count, once honest sites have shown theirs. What is left is to give the attempt up.
    """
    attempt = grouped(n=13, dropouts=1).until(REVEAL)
    shown = {seat: attempt.ask(seat, attempt.outbox[seat]) for seat in range(13) if seat != 8}
    for trial in range(3):
        relay = [*shown.values(), attempt.answer(REVEAL, 8, trial.to_bytes(32, "big"))]
        with pytest.raises(ProtocolError, match="seat 8 shows another draw than the one"):
            attempt.ask(0, attempt.request("keys", 0, [relay, b""]))
    fewer = attempt.body(attempt.outbox[0], 0)[:-1]
    with pytest.raises(ProtocolError, match="each phase once"):
        attempt.ask(0, attempt.request(REVEAL, 0, fewer))
    for seat, frame in shown.items():
        attempt.tell(REVEAL, seat, frame)
    with pytest.raises(ProtocolError, match="seat 8 does not show what"):
        attempt.tell(REVEAL, 8, attempt.answer(REVEAL, 8, bytes(32)))
    ended = attempt.close(REVEAL).done
    assert ended == Aborted("group-reveal: seats [8] committed to a draw and did not show it", (8,))


def test_attack_sybils_in_a_chosen_group_succeeds_where_the_last_may_choose(grouped, monkeypatch):
    """Against sites that take any draw whose frames are signed, the last one to speak tries until it likes it."""
    import commonprior.sums.grouped as module

    monkeypatch.setattr(module, "_checked_draw", lambda session, commitments, shown: tuple(sorted(shown.items())))
    attempt = grouped().until(REVEAL)
    shown = {seat: attempt.ask(seat, attempt.outbox[seat]) for seat in range(9)}
    for trial in range(1000):
        shown[8] = attempt.answer(REVEAL, 8, trial.to_bytes(32, "big"))
        draw = tuple((seat, attempt.body(frame)) for seat, frame in sorted(shown.items()))
        group = next(g for g in groups_of(attempt.session, THREE.grouping, draw) if 0 in g.seats)
        if len(set(group.seats) & {5, 6, 7, 8}) == 2:
            break
    inner = attempt.sum.of.coordinator(group.session, attempt.coordinator._identity).close("start")
    request = dict(inner.send)[group.seats.index(0)]
    assert attempt.ask(0, attempt.request("keys", 0, [[shown[s] for s in sorted(shown)], request]))
    assert len(set(group.seats) & {5, 6, 7, 8}) == 2


def test_attack_a_site_left_out_of_the_draw_that_it_is_told(grouped):
    attempt = grouped(n=13, dropouts=1).until(REVEAL)
    others = attempt.body(attempt.outbox[0], 0)
    mine = attempt.heard[COMMIT][0]
    with pytest.raises(ProtocolError, match="commitment relayed for seat 0 is not the one"):
        attempt.ask(0, attempt.request(REVEAL, 0, [frame for frame in others if frame != mine]))
    with pytest.raises(ProtocolError, match="2 sites committed to a draw, expected at least 12"):
        attempt.ask(0, attempt.request(REVEAL, 0, [mine, attempt.heard[COMMIT][1]]))
    with pytest.raises(ProtocolError, match="twice"):
        attempt.ask(0, attempt.request(REVEAL, 0, [*others, mine]))
    attempt.ask(0, attempt.outbox[0])
    shown = [attempt.ask(seat, attempt.outbox[seat]) for seat in range(1, 13)]
    with pytest.raises(ProtocolError, match="expected all who had committed"):
        attempt.ask(0, attempt.request("keys", 0, [shown, b""]))


def commit_to_another_size(attempt):
    """Seat 3 commits to 33 bytes where everybody draws 32."""
    nonce = os.urandom(33)
    for seat in range(13):
        answer = attempt.ask(seat, attempt.outbox[seat])
        if seat == 3:
            answer = attempt.answer(COMMIT, seat, commitment_of(attempt.session, seat, nonce))
        attempt.tell(COMMIT, seat, answer)
    attempt.close(COMMIT)
    return nonce


def test_attack_a_contribution_of_another_size_ends_nothing(grouped):
    """Committed to as it is: the draw would have failed in the coordinator, and with it the run."""
    attempt = grouped(n=13, dropouts=1).until(COMMIT)
    nonce = commit_to_another_size(attempt)
    with pytest.raises(ProtocolError, match="seat 3 does not show what it had committed to"):
        attempt.coordinator.receive(3, attempt.answer(REVEAL, 3, nonce))
    for seat in set(range(13)) - {3}:
        attempt.tell(REVEAL, seat, attempt.ask(seat, attempt.outbox[seat]))
    done = attempt.coordinator.close(REVEAL).done
    assert isinstance(done, Aborted)
    assert done.culprits == (3,)


def test_attack_a_contribution_of_another_size_succeeds_where_only_its_hash_is_looked_at(grouped, monkeypatch):
    """One site of thirteen, and the coordinator itself falls over: no culprit is named, no next attempt begins."""
    read = _GroupedCoordinator._read

    def hash_alone(coordinator, phase, opened, frame):
        return (opened.body, frame) if phase == REVEAL else read(coordinator, phase, opened, frame)

    monkeypatch.setattr(_GroupedCoordinator, "_read", hash_alone)
    attempt = grouped(n=13, dropouts=1).until(COMMIT)
    nonce = commit_to_another_size(attempt)
    attempt.tell(REVEAL, 3, attempt.answer(REVEAL, 3, nonce))
    for seat in set(range(13)) - {3}:
        attempt.tell(REVEAL, seat, attempt.ask(seat, attempt.outbox[seat]))
    with pytest.raises(ProtocolError, match="expected 32 bytes|contribution"):
        attempt.coordinator.close(REVEAL)


def test_attack_a_frame_of_another_group_or_another_draw(grouped):
    attempt, other = grouped().until("shares"), grouped().until("shares")
    groups = held_groups(attempt)
    here, there = groups[0].seats[0], groups[1].seats[0]
    request = attempt.body(attempt.outbox[there], there)
    with pytest.raises(ProtocolError, match="frame of session"):
        attempt.ask(here, attempt.request("shares", here, request))
    with pytest.raises(ProtocolError, match="frame of session"):
        attempt.ask(here, attempt.request("shares", here, other.body(other.outbox[here], here)))
    attempt.hold("shares")
    stolen = attempt.body(attempt.ask(there, attempt.outbox[there]))
    with pytest.raises(ProtocolError, match="frame of session"):
        attempt.coordinator.receive(here, attempt.answer("masked", here, stolen))
    done = attempt.finish(start="masked")
    assert isinstance(done, Aggregate)


def test_attack_a_phase_within_another(grouped):
    """Whoever guards a site goes by the outer frame's phase: survivors shown under another name would pass unseen."""
    attempt = grouped().until("consistency")
    seat = held_groups(attempt)[0].seats[0]
    within = attempt.body(attempt.outbox[seat], seat)
    with pytest.raises(ProtocolError, match=f"masked request to seat {seat} with a consistency request within"):
        attempt.ask(seat, attempt.request("masked", seat, within))
    assert isinstance(attempt.finish(start="consistency"), Aggregate)


def test_attack_a_phase_within_another_succeeds_where_only_the_outer_frame_is_looked_at(grouped, monkeypatch):
    """Two survivor lists signed by one site, of which whoever guards it has seen but one."""

    def outer_alone(party, phase, state, frame):
        persist, send, done = state.machine.receive(COORDINATOR, frame)
        ((_, answer),) = send
        return state, Reply(answer, persist, None)

    monkeypatch.setattr(_GroupedParty, "_pass_on", outer_alone)
    attempt = grouped().until("consistency")
    group = held_groups(attempt)[0]
    seat = group.seats[0]
    within = attempt.body(attempt.outbox[seat], seat)
    answer = attempt.ask(seat, attempt.request("masked", seat, within))
    outer = open_frame(answer, attempt.session, COORDINATOR)
    assert (outer.phase, open_frame(outer.body, group.session, COORDINATOR).phase) == ("masked", "consistency")


def test_attack_a_group_below_the_minimum_cohort(grouped):
    """The guard sees a site's own group, in seats of the whole roster: a crowd of 9 does not stand for one of 3."""
    seen = []

    def wary(seats):
        seen.append(seats)
        if len(seats) < 4:
            raise PolicyRefusal(f"{len(seats)} are no crowd")

    attempt = grouped(guard=wary).until("shares")
    with pytest.raises(PolicyRefusal, match="3 are no crowd"):
        attempt.ask(0, attempt.outbox[0])
    assert seen == [frozenset(next(g.seats for g in held_groups(attempt) if 0 in g.seats))]
    with pytest.raises(ProtocolError, match="no groups for this session: .* 8 sites have 2 sites each"):
        grouped(n=8)


def test_any_body_is_refused_or_answered(grouped):
    attempt = grouped()
    for phase in (*THREE.phases, "masked", "nonsense"):
        for body in (None, 1, b"", [], [[], b""], [[b"x"], b"x"], {"a": 1}):
            if (phase, body) == (COMMIT, None):
                continue
            with pytest.raises(ProtocolError):
                attempt.parties[0].receive(COORDINATOR, attempt.request(phase, 0, body))
            with pytest.raises(ProtocolError):
                attempt.coordinator.receive(0, attempt.answer(phase, 0, body))
