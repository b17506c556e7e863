"""Public numbers against the standard they come from, and sums that no processor may order anew."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.canonical import encode
from commonprior.learners import _public


def test_bits_are_those_of_the_standard():
    stream = hashlib.shake_256(encode(["commonprior/public/1", "a", 3])).digest(5)
    expected = [byte >> (7 - i) & 1 for byte in stream for i in range(8)][:37]
    assert _public.bits(37, "a", 3).tolist() == expected
    assert (_public.signs(37, "a", 3) == 1 - 2 * np.array(expected)).all()


def test_other_words_give_other_numbers():
    assert (_public.bits(64, "a", 1) != _public.bits(64, "a", 2)).any()
    assert (_public.bits(64, "a") == _public.bits(128, "a")[:64]).all()


def test_normals_are_all_but_normal():
    drawn = _public.normals(200_000, "normals")
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.01)
    assert (drawn**4).mean() == pytest.approx(3 - 2 / 64, abs=0.05)
    assert np.abs(drawn).max() <= 8


def test_integers_are_even():
    counts = np.bincount(_public.integers(60_000, 6, "dice"), minlength=6)
    assert len(counts) == 6
    assert np.abs(counts - 10_000).max() < 500


@given(st.lists(st.floats(-1e6, 1e6), max_size=40))
def test_a_total_is_a_sum(values):
    assert float(_public.total(np.array(values))) == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6)


def test_a_total_adds_in_halves_to_the_last_bit():
    a, b, c, d, e = values = np.array([1e16, 3.0, -1e16, 1.0, 0.1])
    assert _public.total(values) == ((a + d) + c) + (b + e)
