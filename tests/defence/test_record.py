"""What follows from the record: who is left out, and when everyone goes back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.defence.exclusion import Exclusion
from commonprior.defence.roll_back import RollBack
from commonprior.errors import InputError, RecipeError

A, B, C, D = b"a", b"b", b"c", b"d"


def rounds_of(**said):
    """`a="rra"`: a was rejected, rejected, accepted; `.` is not there."""
    length = max(map(len, said.values()))
    return [
        {name.encode(): word[i] == "a" for name, word in said.items() if i < len(word) and word[i] != "."}
        for i in range(length)
    ]


@pytest.mark.parametrize(
    ("word", "out"),
    [("rrr", True), ("rr", False), ("rrarr", True), ("rraar", False), ("aaarrr", True), ("r.r.r", True)],
)  # fmt: skip
def test_rejections_count_up_and_what_is_accepted_down(word, out):
    history = rounds_of(a=word, b="aaaaaa", c="aaaaaa", d="aaaaaa")
    assert Exclusion(after=3, pardons=1).excluded(history, 30) == (frozenset({A}) if out else frozenset())


def test_an_accepted_update_pardons_as_many_as_it_says():
    history = rounds_of(a="rrrarrr", b="a", c="a", d="a")
    assert Exclusion(after=4, pardons=3).excluded(history, 30) == frozenset()
    assert Exclusion(after=4, pardons=2).excluded(history, 30) == {A}


@pytest.mark.parametrize(
    ("rejected", "rounds", "least", "most"),
    [(0.4, 300, 0.0, 0.01), (0.5, 300, 0.0, 0.1), (0.9, 60, 0.95, 1.0), (1.0, 12, 1.0, 1.0)],
)
def test_chance_leaves_hardly_an_honest_site_out_and_hardly_a_liar_in(rejected, rounds, least, most):
    """The exact chance to be caught within so many rounds, from the counts' Markov chain."""
    rule = Exclusion()
    step = np.zeros((rule.after + 1, rule.after + 1))
    step[rule.after, rule.after] = 1.0
    for count in range(rule.after):
        step[count, count + 1] += rejected
        step[count, max(0, count - rule.pardons)] += 1 - rejected
    assert least <= np.linalg.matrix_power(step, rounds)[0, -1] <= most


def test_out_is_for_good():
    assert Exclusion(after=2).excluded(rounds_of(a="rraaaaa", b="a", c="a", d="a"), 30) == {A}


def test_no_more_are_left_out_than_may_lie_the_first_to_be_caught():
    history = rounds_of(a="arrr", b="rrra", c="aarr", d="aaaa")
    assert Exclusion(after=2).excluded(history, 25) == {B}
    assert Exclusion(after=2).excluded(history, 49) == {B}
    assert Exclusion(after=2).excluded(history, 50) == {A, B}
    assert Exclusion(after=2).excluded(history, 0) == frozenset()


@given(st.lists(st.dictionaries(st.binary(min_size=1, max_size=1), st.booleans()), max_size=20), st.integers(0, 49))
def test_who_is_out_stays_out_while_the_same_take_part(history, liars):
    everyone = dict.fromkeys(set().union(*history), True)
    earlier, now = (Exclusion(2).excluded([everyone, *h], liars) for h in (history[:-1], history))
    assert earlier <= now
    assert 100 * len(now) <= liars * len(everyone)


@given(st.lists(st.floats(-5, 5), max_size=12), st.integers(1, 4), st.sampled_from([0.0, 0.1]))
def test_the_versions_that_are_needed_say_the_same_as_all_of_them(losses, rounds, margin):
    """From version to version, forgetting what is not needed, against the whole list."""
    rule, kept = RollBack(margin, rounds), []
    for at, loss in enumerate(losses):
        kept.append((at, loss))
        best, whole = rule.best([v for _, v in kept]), rule.best(losses[: at + 1])
        assert (None if best is None else kept[best][0]) == whole
        kept = [kept[i] for i in rule.needed([v for _, v in kept])]
        assert len(kept) <= rounds + 1


def test_back_to_the_best_after_three_that_are_worse():
    losses = [[1.0, 0.8, 0.5, 0.6, 0.7, 0.65]]
    assert RollBack(margin=0.1, rounds=3).version(losses) == 2
    assert RollBack(margin=0.1, rounds=4).version(losses) is None
    assert RollBack(margin=0.2, rounds=3).version(losses) is None


def test_a_version_that_equals_the_best_ends_it():
    assert RollBack(margin=0.1, rounds=2).version([[0.5, 0.9, 0.9, 0.5]]) is None


def test_losses_below_zero_have_margins_too():
    assert RollBack(margin=0.1, rounds=1).version([[-1.0, -0.95]]) is None
    assert RollBack(margin=0.1, rounds=1).version([[-1.0, -0.85]]) == 0


@given(st.lists(st.lists(st.floats(), min_size=6, max_size=6), min_size=2, max_size=2))
def test_two_liars_of_five_neither_bring_it_about_nor_stop_it(lies):
    better, worse = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5], [1.0, 0.5, 0.8, 0.9, 0.9, 0.9]
    rule = RollBack(margin=0.1, rounds=3)
    assert rule.version([*lies, *[better] * 3]) is None
    assert rule.version([*lies, *[worse] * 3]) == 1


def test_a_loss_that_is_lost_is_worse_than_any():
    assert RollBack(margin=0.1, rounds=1).version([[math.nan, 1.0, math.nan]]) == 1
    assert RollBack(margin=0.0, rounds=1).version([[math.inf, math.nan]]) is None


def test_tables_that_are_none_are_refused():
    with pytest.raises(InputError, match="one row a validator"):
        RollBack().version(np.zeros(3))


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: Exclusion(0), "exclusion.after = 0"), (lambda: RollBack(-1.0), "roll_back.margin = -1"),
     (lambda: RollBack(rounds=0), "roll_back.rounds = 0"), (lambda: Exclusion(pardons=0), "exclusion.pardons = 0")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_named(make, said):
    with pytest.raises(RecipeError, match=said):
        make()
