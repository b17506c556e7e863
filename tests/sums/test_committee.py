"""The committee sum as a protocol: whoever vanishes when, the sum is that of the plain one, or there is none."""

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode
from commonprior.errors import InputError, PolicyRefusal, ProtocolError, RecipeError
from commonprior.identity import verify
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import recipe_from, to_toml
from commonprior.session import COORDINATOR, Encoding, consistency_statement
from commonprior.sums import Aborted, Aggregate, Finished
from commonprior.sums._committee_field import FIELD, HALF
from commonprior.sums._committee_terms import Tolerance, terms_of, tolerances
from commonprior.sums._consistency import commit
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked
from commonprior.training import train_rounds

PHASES = Committee.phases[1:]
OUT = ("keys", "shares", "check", "verify")


@pytest.fixture(scope="module")
def hold(play, session):
    """A play among n sites whose integers fill the field."""

    def make(n=5, dropouts=1, length=6, sum=None, width=4, limit=None, seed=0, guard=None):
        encoding = Encoding(n, 0, min(limit or HALF // n, (2 ** (8 * width - 1) - 1) // n), width)
        made = session(n=n, dropouts=dropouts, length=length, encoding=encoding)
        more = {"guard": guard} if guard else {}
        return play(made, seed=seed, play={"sum": sum or Committee(), **more})

    return make


def total(attempt, seats):
    return sum(attempt.vectors[seat] for seat in seats)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_it_is_the_sum_of_those_who_stayed_whoever_drops_out_when(hold, data):
    n = data.draw(st.integers(3, 8), "n")
    dropouts = data.draw(st.integers(0, max(0, min((n - 1) // 2, n - 3))), "dropouts")
    m = data.draw(st.integers(3 + dropouts, n), "aggregators")
    t = data.draw(st.integers(0, m - 2 - dropouts), "threshold")
    width = data.draw(st.sampled_from([1, 2, 4, 8]), "width")
    attempt = hold(n, dropouts, data.draw(st.integers(1, 9), "length"), Committee(m, t), width)
    seats = data.draw(st.permutations(range(n)), "seats")[: data.draw(st.integers(0, dropouts), "leaving")]
    leave = {seat: data.draw(st.sampled_from(PHASES), f"seat {seat} leaves in") for seat in seats}
    done = attempt.finish(leave)
    stayed = tuple(seat for seat in range(n) if leave.get(seat) not in OUT)
    assert isinstance(done, Aggregate)
    assert done.survivors == stayed
    assert done.value.dtype == np.int64
    np.testing.assert_array_equal(done.value, total(attempt, stayed))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_extreme_integers_of_every_party_do_not_wrap(hold, sign):
    for n in (3, 4, 10):
        attempt = hold(n, 0)
        for vector in attempt.vectors:
            vector[:] = sign * attempt.session.encoding.limit
        np.testing.assert_array_equal(attempt.finish().value, sign * n * (HALF // n))


def test_a_vector_longer_than_a_block(hold):
    attempt = hold(4, 1, 20_011)
    done = attempt.finish({0: "verify"})
    np.testing.assert_array_equal(done.value, total(attempt, (1, 2, 3)))


@pytest.mark.parametrize("phase", PHASES)
def test_one_more_than_allowed_aborts_and_blames_nobody(hold, phase):
    done = hold(5, 1).finish({0: phase, 3: phase})
    assert done == Aborted(f"{phase}: 3 of 5 sites answered, expected at least 4")


def test_the_record_s_part_has_the_shape_of_every_sum_s(hold):
    attempt = hold(6, 2)
    done = attempt.finish({3: "shares", 4: "sums"})
    assert done.survivors == (0, 1, 2, 4, 5)
    assert done.statement == consistency_statement(attempt.session, done.survivors, done.commitments)
    assert [seat for seat, _ in done.signatures] == [0, 1, 2, 4, 5]
    assert all(verify(attempt.session.key_of(s), g, done.statement) for s, g in done.signatures)
    headers = [attempt.body(attempt.heard["shares"][s])["header"] for s in done.survivors]
    assert done.commitments == tuple(map(commit, headers))
    assert decode(done.parts[0]) == {"degree": 1, "culprits": []}
    assert done.parts[1:] == tuple(attempt.heard["sums"][seat] for seat in (0, 1, 2, 5))


def test_only_full_shares_travel_and_four_bytes_a_number(hold):
    attempt = hold(6, 0, 1000, Committee(5, 2)).until("check")
    sizes = [len(attempt.heard["shares"][seat]) for seat in range(6)]
    for seat, full in ((0, 3), (1, 3), (2, 2), (4, 2), (5, 3)):
        assert 4000 * full < sizes[seat] < 4000 * full + 1500
    attempt.hold("check")
    for phase in ("verify", "consistency"):
        attempt.hold(phase)
        assert all(len(answer) < 500 for answer in attempt.heard[phase].values())
    attempt.hold("sums")
    assert [4000 < len(attempt.heard["sums"][seat]) < 4300 for seat in range(6)] == [True] * 5 + [False]


def test_the_spend_is_written_down_with_the_shares_and_once(hold):
    for phase in PHASES:
        attempt = hold().until(phase)
        step = attempt.parties[1].receive(COORDINATOR, attempt.outbox[1])
        assert bool(step.persist) == (phase == "shares")
        assert step.done == (Finished((0, 1, 2, 3, 4)) if phase == "sums" else None)
        assert attempt.parties[1].receive(COORDINATOR, attempt.outbox[1]) == step
        if step.persist:
            header = attempt.body(step.send[0][1])["header"]
            record: Any = decode(step.persist)
            assert record["commitment"] == commit(header)


def test_the_guard_sees_who_contributes_before_anything_leaves_for_them(hold):
    asked = []
    hold(5, 1, guard=asked.append).finish({4: "shares"})
    everyone, four = frozenset(range(5)), frozenset(range(4))
    assert asked == [everyone] * 4 + [four] * 4 + [four] * 4


@pytest.mark.parametrize("phase", ["shares", "check", "consistency"])
def test_a_guard_that_refuses_lets_nothing_out_and_changes_nothing(hold, phase):
    refusing = False

    def guard(seats):
        if refusing:
            raise PolicyRefusal("too few whom this site trusts")

    attempt = hold(guard=guard).until(phase)
    refusing = True
    with pytest.raises(PolicyRefusal):
        attempt.ask(1, attempt.outbox[1])
    refusing = False
    assert attempt.finish(start=phase).survivors == (0, 1, 2, 3, 4)


def test_a_restarted_coordinator_goes_on_with_the_same_attempt(hold, organiser):
    whole = hold()
    expected = whole.finish({2: "verify"})
    for cut in range(len(whole.log) + 1):
        again: Any = Committee().coordinator(whole.session, organiser, whole.log[:cut])
        done = None
        for seat, frame in whole.log[cut:]:
            if seat == COORDINATOR:
                done = again.close(again._phase).done or done
            else:
                again.receive(seat, frame)
        ended = done or again.close("sums").done
        np.testing.assert_array_equal(ended.value, expected.value)
        assert ended.parts == expected.parts


def test_a_party_answers_in_order_only(hold):
    attempt = hold()
    for phase in PHASES[1:]:
        with pytest.raises(ProtocolError, match=f"{phase} request to seat 0, which is fresh"):
            attempt.parties[0].receive(COORDINATOR, attempt.request(phase, 0, None))
    attempt.finish()
    with pytest.raises(ProtocolError, match="which is released"):
        attempt.parties[0].receive(COORDINATOR, attempt.request("shares", 0, None))


def test_an_integer_over_the_limit_never_leaves(hold):
    attempt = hold()
    attempt.vectors[1][3] = attempt.session.encoding.limit + 1
    with pytest.raises(InputError, match="over the encoding's limit"):
        attempt.until("check")


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 7) | st.binary(max_size=70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keys", "sum", "holders"]), inner),
    max_leaves=5,
)


@st.composite
def damaged(draw, value):
    """A value with one thing in it wrong."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        places = sorted(value) if isinstance(value, dict) else list(range(len(value)))
        where, copy = draw(st.sampled_from(places)), value.copy()
        if draw(st.integers(0, 3)):
            copy[where] = draw(damaged(value[where]))
        else:
            del copy[where]
        return copy
    if isinstance(value, bytes) and value and draw(st.booleans()):
        i = draw(st.integers(0, len(value) - 1))
        return draw(st.sampled_from([value[:i], value + b"\0", value[:i] + bytes([value[i] ^ 1]) + value[i + 1 :]]))
    return draw(junk)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_signed_nonsense_of_a_coordinator_is_refused_or_harmless(hold, data):
    phase, seat = data.draw(st.sampled_from(PHASES)), data.draw(st.integers(0, 3))
    attempt = hold(4).until(phase)
    body = data.draw(damaged(attempt.body(attempt.outbox[seat], seat)))
    try:
        attempt.parties[seat].receive(COORDINATOR, attempt.request(phase, seat, body))
    except ProtocolError:
        assert attempt.finish(start=phase).survivors == (0, 1, 2, 3)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_signed_nonsense_of_a_site_never_makes_a_wrong_sum(hold, data):
    phase, seat = data.draw(st.sampled_from(PHASES)), data.draw(st.integers(0, 5))
    attempt = hold(6).until(phase)
    body = data.draw(damaged(attempt.body(attempt.ask(seat, attempt.outbox[seat]))))
    with contextlib.suppress(ProtocolError):
        attempt.coordinator.receive(seat, attempt.answer(phase, seat, body))
    done = attempt.finish({seat: phase}, start=phase)
    if isinstance(done, Aggregate):
        np.testing.assert_array_equal(done.value, total(attempt, done.survivors))


# What is refused beforehand, and what is borne.


def test_three_sites_of_whom_one_may_drop_out_are_refused(hold, session, organiser):
    three = session(n=3, dropouts=1, encoding=Encoding(3, 0, 9, 4))
    with pytest.raises(RecipeError, match="3 sites of whom 1 may drop out: a sum over 2 shows what 1 of them sent"):
        Committee().coordinator(three, organiser)
    with pytest.raises(RecipeError, match="2 sites of whom 0 may drop out"):
        Committee().coordinator(session(n=2, dropouts=0), organiser)
    assert hold(3, 0).finish().survivors == (0, 1, 2)


def test_a_sum_that_does_not_fit_the_field_is_refused_with_the_numbers(session, identities, organiser):
    for n, limit in ((4, HALF // 4 + 1), (3, HALF // 3 + 1)):
        given_ = session(n=n, dropouts=0, encoding=Encoding(n, 0, limit, 4))
        with pytest.raises(RecipeError, match=f"{n} sites of integers up to {limit} reach {n * limit}, .* {HALF} = "):
            Committee().coordinator(given_, organiser)
        with pytest.raises(ProtocolError, match="no committee for this session"):
            Committee().party(given_, 0, identities[0], np.zeros(5, np.int64), bytes, lambda seats: None)
    assert HALF == (FIELD - 1) // 2 == 2**30 - 1


@pytest.mark.parametrize(
    ("n", "dropouts", "colluders", "kind", "why"),
    [
        (5, 0, 0, Committee(6), "sum.aggregators = 6: there are 5 sites"),
        (7, 1, 2, Committee(threshold=1), "sum.threshold = 1: 2 colluders are assumed"),
        (7, 1, 0, Committee(5, 3), r"at most 0 of them are gone, but 1 sites may drop out: .* = 6"),
        (7, 2, 0, Committee(4), r"4 aggregators of threshold 1 .* 2 sites may drop out"),
        (5, 0, 4, Committee(), "a sum over 5 shows what 1 of them sent to anyone who knows the other 4"),
    ],
)
def test_terms_that_do_not_go_together(session, organiser, n, dropouts, colluders, kind, why):
    given_ = session(n=n, dropouts=dropouts, colluders=colluders, encoding=Encoding(n, 0, 9, 4))
    with pytest.raises(RecipeError, match=why):
        kind.coordinator(given_, organiser)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((2, 0), "sum.aggregators = 2"), ((-1, 0), "sum.aggregators = -1"), ((0, -1), "sum.threshold = -1"),
        ((5, 4), "sum.threshold = 4 with sum.aggregators = 5: expected at most 3"),
    ],
)  # fmt: skip
def test_fields_that_make_no_sense(fields, why):
    with pytest.raises(RecipeError, match=why):
        Committee(*fields)


@pytest.mark.parametrize(
    ("n", "dropouts", "colluders", "threshold"), [(5, 0, 0, 2), (5, 1, 0, 1), (10, 3, 0, 4), (3, 0, 0, 1), (9, 1, 6, 6)]
)
def test_the_derived_threshold_names_a_liar_with_everyone_gone_who_may(session, n, dropouts, colluders, threshold):
    given_ = session(n=n, dropouts=dropouts, colluders=colluders, encoding=Encoding(n, 0, 9, 4))
    terms = terms_of(given_, 0, 0)
    assert terms == (tuple(range(n)), threshold)
    assert tolerances(n, threshold)[dropouts].named == (0 if n in (3, 9) else 1)


def test_tolerances_by_hand():
    assert tolerances(5, 2) == (Tolerance(0, 1, 1), Tolerance(1, 0, 1))
    assert tolerances(6, 1) == (Tolerance(0, 2, 2), Tolerance(1, 1, 2), Tolerance(2, 1, 1), Tolerance(3, 0, 1))
    assert tolerances(3, 2) == ()


# Through the round, the agent and the record.


def parts_that_fit(name):
    return {
        "two bytes": {"mechanism": DiscreteGaussian(clip=10.0, per="site", bytes=2)},
        "as it comes": {"mechanism": DiscreteGaussian(clip=10.0, per="site")},
        "noise": {"mechanism": DiscreteGaussian(clip=10.0, noise=1e-3, per="site")},
    }[name]


@pytest.mark.parametrize("name", ["two bytes", "as it comes"])
def test_the_same_prior_as_the_masked_sum_bit_for_bit(make_recipe, run_of, name):
    lost = lambda seat, phase, count: seat == 1 and phase in ("keys", "consistency")  # noqa: E731
    hashes = set()
    for kind in (Masked(), Committee()):
        training = run_of(make_recipe(sites=5, dropouts=1, sum=kind, **parts_that_fit(name)), type(kind).__name__, lost)
        train_rounds(training)
        hashes.add(training.coordinator.prior.hash())
        assert training.coordinator.rounds_done == 2
    assert len(hashes) == 1


def test_noise_is_accounted_for_as_under_any_sum(make_recipe, run_of):
    spent = set()
    for kind in (Masked(), Committee()):
        training = run_of(make_recipe(sites=4, sum=kind, **parts_that_fit("noise")), type(kind).__name__)
        train_rounds(training)
        spent.add(training.coordinator.figures().epsilon)
    assert len(spent) == 1
    assert spent.pop() > 0


def test_a_recipe_names_it_in_one_line(make_recipe):
    table = make_recipe().table()
    table["sum"] = {"kind": "committee", "threshold": 2}
    table["tasks"] = {"kind": "nanothermal"}
    recipe = recipe_from(table)
    assert recipe.sum == Committee(0, 2)
    assert 'kind = "committee"' in to_toml(recipe)
