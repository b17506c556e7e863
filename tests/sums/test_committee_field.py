"""The committee's arithmetic against Python's integers, and against MPyC where it is installed."""

import importlib.util
import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.errors import InputError
from commonprior.sums import _committee_decode as decoding
from commonprior.sums import _committee_field as field
from commonprior.sums import _shamir
from commonprior.sums._committee_field import FIELD, HALF, WORD, add_up, combine, expand, extrapolate, inner, lagrange

P = FIELD
FEW = settings(deadline=None, max_examples=30)
EDGES = [0, 1, 2, HALF - 1, HALF, HALF + 1, P - 2, P - 1]
elements = st.sampled_from(EDGES) | st.integers(0, P - 1)


def rows_of(values):
    return [np.array(row, WORD) for row in values]


def at(coefficients, x):
    return _shamir.evaluate(coefficients, x, P)


@FEW
@given(data=st.data(), n=st.integers(1, 9), d=st.integers(1, 5))
def test_combinations_are_those_of_python_integers(data, n, d):
    rows = data.draw(st.lists(st.lists(elements, min_size=d, max_size=d), min_size=n, max_size=n))
    weights = data.draw(st.lists(st.lists(elements, min_size=n, max_size=n), min_size=1, max_size=3))
    expected = [[sum(w * row[j] for w, row in zip(ws, rows)) % P for j in range(d)] for ws in weights]
    assert combine(rows_of(rows), weights).tolist() == expected
    assert inner(rows_of(rows), np.array(rows, WORD)) == [
        [sum(a * b for a, b in zip(r, c)) % P for c in rows] for r in rows
    ]


@pytest.mark.parametrize("weight", EDGES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 60])
def test_the_largest_elements_overflow_nothing(weight, n):
    rows = [np.full(3, P - 1, WORD)] * n
    assert combine(rows, [[weight] * n])[0].tolist() == [n * weight * (P - 1) % P] * 3
    assert add_up(rows).tolist() == [n * (P - 1) % P] * 3


@FEW
@given(coefficients=st.lists(elements, min_size=1, max_size=12), count=st.integers(0, 12))
def test_shares_are_the_polynomial_s_values(coefficients, count):
    t = len(coefficients) - 1
    out = [np.empty(1, WORD) for _ in range(count)]
    extrapolate(rows_of([[at(coefficients, x)] for x in range(t + 1)]), out)
    assert [int(v[0]) for v in out] == [at(coefficients, x) for x in range(t + 1, t + 1 + count)]


def test_vectors_longer_than_a_block_and_not_a_multiple_of_one():
    d, rng = 20_011, np.random.default_rng(0)
    rows = [rng.integers(0, P, d).astype(WORD) for _ in range(3)]
    wide = [row.astype(object) for row in rows]
    assert (combine(rows, [[5, P - 1, HALF]])[0] == (5 * wide[0] - wide[1] + HALF * wide[2]) % P).all()
    assert inner(rows, np.stack(rows[:2])) == [[int((a * b).sum() % P) for b in wide[:2]] for a in wide]
    out = [np.empty(d, WORD)]
    extrapolate(rows, out)
    assert (out[0] == (wide[0] - 3 * wide[1] + 3 * wide[2]) % P).all()


@FEW
@given(coefficients=st.lists(elements, min_size=1, max_size=6), data=st.data())
def test_lagrange_weights_rebuild_any_value(coefficients, data):
    points = data.draw(st.permutations(range(1, 12)))[: len(coefficients)]
    x = data.draw(st.integers(0, 30))
    assert sum(w * at(coefficients, p) for w, p in zip(lagrange(points, x), points)) % P == at(coefficients, x)


def test_signed_integers_go_into_the_field_and_come_back():
    integers = np.array([0, 1, -1, HALF, -HALF, 5], np.int64)
    out = np.empty(6, WORD)
    field.to_field(integers, HALF, out)
    assert out.tolist() == [v % P for v in integers.tolist()]
    assert field.from_field(out).tolist() == integers.tolist()
    for wrong in (HALF + 1, -HALF - 1, -(2**63), 2**63 - 1):
        with pytest.raises(InputError, match=f"size {abs(wrong)} is over the encoding's limit {HALF}"):
            field.to_field(np.array([0, wrong], np.int64), HALF, np.empty(2, WORD))


def test_a_word_that_is_no_element_is_thrown_away_never_folded(monkeypatch):
    """In the field of 7, one word in eight is no element: the stream is that of AES-256-CTR with those left out."""
    stream = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor().update(bytes(200_000))
    words = np.frombuffer(stream, WORD)
    assert expand(bytes(32), 40_000).tolist() == [w for w in (words & P).tolist() if w != P][:40_000]
    monkeypatch.setattr(field, "FIELD", 7)
    assert expand(bytes(32), 40_000).tolist() == [w for w in (words & 7).tolist() if w != 7][:40_000]
    counts = np.bincount(expand(bytes(32), 70_000))
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 500


def test_there_is_one_way_to_write_an_element():
    assert field.read_elements(np.array([0, P - 1], WORD).tobytes()) is not None
    for wrong in (P, P + 1, 2**32 - 1):
        assert field.read_elements(np.array([0, wrong], WORD).tobytes()) is None


def test_attack_threshold_shares_say_nothing_and_one_more_says_it_all(monkeypatch):
    """Over the field of 7 with t = 2: whatever the secret, each pair of five shares comes up equally often."""
    monkeypatch.setattr(field, "FIELD", 7)
    seen: dict = {}
    for secret, *drawn in itertools.product(range(7), repeat=3):
        out = [np.empty(1, WORD) for _ in range(3)]
        extrapolate(rows_of([[secret], *([v] for v in drawn)]), out)
        shares = (*drawn, *(int(v[0]) for v in out))
        for pair in itertools.combinations(range(5), 2):
            seen.setdefault((pair, shares[pair[0]], shares[pair[1]]), []).append(secret)
        for three in itertools.combinations(range(5), 3):
            weights = lagrange([i + 1 for i in three], 0)
            assert sum(w * shares[i] for w, i in zip(weights, three)) % 7 == secret
    assert len(seen) == 10 * 49
    assert all(sorted(secrets) == list(range(7)) for secrets in seen.values())


@FEW
@given(data=st.data(), degree=st.integers(0, 5), spare=st.integers(0, 6))
def test_liars_are_found_wherever_they_are(data, degree, spare):
    n = degree + 1 + spare
    points = data.draw(st.permutations(range(1, 30)))[:n]
    coefficients = data.draw(st.lists(elements, min_size=degree + 1, max_size=degree + 1))
    liars = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, spare // 2))]
    word = [at(coefficients, x) for x in points]
    for liar in liars:
        word[liar] = (word[liar] + data.draw(st.integers(1, P - 1))) % P
    assert decoding.locate(points, word, degree) == frozenset(liars)


def test_one_liar_more_than_can_be_named_is_noticed():
    rng = np.random.default_rng(1)
    for degree, n in ((1, 5), (2, 6), (1, 3), (4, 8)):
        answers = {s: np.array([at([7, *range(degree)], s + 1)] * 3, WORD) for s in range(n)}
        too_many = (n - degree - 1) // 2 + 1
        if too_many > n - degree - 1 - (n - degree - 1) // 2:
            continue
        for seats in itertools.combinations(range(n), too_many):
            lied = {s: a if s not in seats else rng.integers(0, P, 3).astype(WORD) for s, a in answers.items()}
            assert decoding.decode(lied, degree) is None


def test_a_word_that_lies_on_nothing_has_no_liars_to_name():
    rng = np.random.default_rng(3)
    for degree, errors in ((0, 1), (1, 1), (2, 2), (4, 3)):
        n = degree + 1 + 2 * errors
        assert decoding.locate(range(1, n + 1), rng.integers(0, P, n).tolist(), degree) is None


def test_the_whole_vector_is_checked_without_those_who_were_found(monkeypatch):
    """Combinations that look at one number only find one liar of two: the rest still do not agree."""
    answers = {s: np.array([at([c, 3], s + 1) for c in range(3)], WORD) for s in range(4)}
    answers[1][0] += 1
    assert decoding.decode(answers, 1) is not None
    answers[2][2] += 1
    monkeypatch.setattr(decoding, "expand", lambda key, length: np.resize(np.array([1, 0, 0], WORD), length))
    assert decoding.decode(answers, 1) is None


def test_liars_in_different_coordinates_are_all_found():
    answers = {s: np.array([at([c, 3, 5], s + 1) for c in range(9)], WORD) for s in range(7)}
    answers[2][8] = 0
    answers[6][0] += 1
    found = decoding.decode(answers, 2)
    assert found is not None
    assert found.liars == {2, 6}
    assert found.value.tolist() == list(range(9))


@pytest.mark.skipif(importlib.util.find_spec("mpyc") is None, reason="mpyc is not installed: no oracle to compare with")
def test_mpyc_shares_and_sums_as_we_do():
    """MPyC's own Shamir over the same prime: it opens our shares, we open the sum of its shares."""
    finfields, thresha = importlib.import_module("mpyc.finfields"), importlib.import_module("mpyc.thresha")
    prime, t, m, d = finfields.GF(modulus=P), 2, 5, 6
    rng = np.random.default_rng(2)
    secrets = rng.integers(0, P, (3, d)).tolist()
    ours = []
    for secret in secrets:
        values = [np.array(secret, WORD), *(expand(os.urandom(32), d) for _ in range(t))]
        full = [np.empty(d, WORD) for _ in range(m - t)]
        extrapolate(values, full)
        ours.append([*values[1:], *full])
    summed = [add_up([shares[i] for shares in ours]) for i in range(m)]
    expected = [sum(column) % P for column in zip(*secrets)]
    for seats in itertools.combinations(range(m), t + 1):
        opened = thresha.recombine(prime, [(i + 1, [prime(v) for v in summed[i].tolist()]) for i in seats])
        assert [int(v) % P for v in opened] == expected
    theirs = [thresha.random_split(prime, [prime(v) for v in secret], t, m) for secret in secrets]
    totals = {i: add_up([np.array([int(v) for v in shares[i]], WORD) for shares in theirs]) for i in range(m)}
    decoded = decoding.decode(totals, t)
    assert decoded is not None
    assert decoded.value.tolist() == expected
