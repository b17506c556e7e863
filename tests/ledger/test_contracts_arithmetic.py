"""The mean that a contract computes is floor(S / n + 1/2), for every n to 256 and every sum that can occur, and nothing
runs over at 256 contributors; there is no 257th.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.errors import InputError
from commonprior.ledger.client import Rules
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.public import Update, lanes_of, mean_of, packed

from ._compiled import Deployed
from ._consortium import BOND, SMALL_TERMS, Consortium, consortium, identity, refused

EVERY_N = range(1, 257)


def means(count):
    """floor(S / n + 1/2) + 128 for every sum of n bytes x + 128, by exact integers and no other way."""
    sums = np.arange(255 * count + 1, dtype=np.int64)
    return sums, (2 * (sums - 128 * count) + count) // (2 * count) + 128


def test_the_lanes_arithmetic_is_the_mean_for_every_count_and_every_sum():
    for count in EVERY_N:
        sums, expected = means(count)
        y, m = sums + count // 2, (1 << 24) // count + 1
        assert int((y * m).max()) < 1 << 32  # nothing reaches the lane above
        np.testing.assert_array_equal(y * m >> 24 & 0xFF, expected, err_msg=f"n = {count}")
    assert 255 * 256 < 1 << 16 <= 255 * 258  # 257 contributors still fit a lane, 258 do not


def test_the_widest_lanes_do_not_touch_their_neighbours():
    """In Python's integers, word for word as the contract computes: extreme sums beside sums of nothing."""
    low, half = int("000000ff" * 8, 16), int("0000ffff" * 8, 16)
    for count in EVERY_N:
        for pattern in ((255 * count, 0), (0, 255 * count), (255 * count, 255 * count), (count // 2, 255 * count)):
            even = sum(pattern[i % 2] << 16 * i for i in range(16))
            m, ones = (1 << 24) // count + 1, int("00000001" * 8, 16) * (count >> 1)
            for shift in (0, 16):
                got = (((even >> shift & half) + ones) * m >> 24) & low
                sums, expected = means(count)
                right = [int(expected[pattern[(2 * lane + shift // 16) % 2]]) for lane in range(8)]
                assert [got >> 32 * lane & 0xFF for lane in range(8)] == right


@pytest.fixture(scope="module")
def inside():
    return Deployed(Embedded(None), "Inside")


def test_the_compiled_contract_gives_that_mean_for_every_count_and_every_sum(inside):
    for count in EVERY_N:
        sums, expected = means(count)
        for at in range(0, len(sums), 2048):
            part = np.zeros(2048, ">u2")
            part[: len(sums) - at] = sums[at : at + 2048]
            words = [int.from_bytes(row.tobytes(), "big") for row in part.reshape(128, 16)]
            got = inside.read("mean", words, 64, count)
            # Word 2i holds the even bytes of word i of the mean, from the right, word 2i + 1 the odd ones.
            mean = np.frombuffer(b"".join(w.to_bytes(32, "big") for w in got), np.uint8).reshape(64, 16, 2) ^ 0x80
            said = np.stack([mean[:, :, 1], mean[:, :, 0]], 1).reshape(-1)
            np.testing.assert_array_equal(said[: len(sums) - at], expected[at : at + 2048], err_msg=f"n = {count}")


@pytest.mark.parametrize("count", [0, 257, 258, 65_536])
def test_a_count_that_the_lanes_do_not_hold_is_refused(inside, count):
    with refused("L: count"):
        inside.read("mean", [0] * 128, 1, count)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 2048), st.integers(0, 2**32), st.booleans())
def test_sums_and_means_are_numpy_s(inside, count, length, seed, extreme):
    rng = np.random.default_rng(seed)
    values = [-128, 127] if extreme else range(-128, 128)
    rows = rng.choice(np.array(values, np.int8), (count, length))
    deltas = [packed(row) for row in rows]
    sums = [0] * 128
    for delta in deltas:
        sums = inside.read("added", sums, delta)
    words = len(deltas[0]) // 32
    assert list(sums[: 2 * words]) == lanes_of(deltas)
    mean = b"".join(w.to_bytes(32, "big") for w in inside.read("mean", sums, words, count))
    assert mean == mean_of(deltas)
    expected = np.floor(rows.astype(np.float64).sum(0) / count + 0.5).astype(np.int8)
    np.testing.assert_array_equal(np.frombuffer(mean, np.int8)[:length], expected)


def crowd(count, words):
    """A consortium in which votes are staked, with more contributors than a list has room for: three hold the votes."""
    made = consortium(3, None, deposit=5 * 10**8, rules=Rules(stake=True))
    rich = [*made.members]
    for i in range(3, count):
        someone = identity(i)
        made.fund(someone, BOND)
        made.deposit(someone, BOND)
        made.members.append(someone)
    made.members.sort(key=lambda m: m.address)
    made.mine()
    made.begin(SMALL_TERMS._replace(words=words), who=rich)
    return made, rich


def finish(made: Consortium, attempt, updates, voters):
    def ballots(*named):
        return made.ballots(attempt, updates, *named, who=voters, taken=(1 << len(updates)) - 1)

    return made.finish(attempt, updates, (1 << len(updates)) - 1, ballots)


def extremes(made, pattern):
    """Updates at the ends of int8: all of them the lowest or the highest number, or both in turn."""
    both = np.array([-128, 127], np.int8)
    rows = {"low": lambda i: both[[0]], "high": lambda i: both[[1]], "turns": lambda i: both[[i % 2, 1 - i % 2]]}[
        pattern
    ]
    length = 32 * made.terms.words
    return [Update(m.address, np.resize(rows(i), length).tobytes(), bytes(32)) for i, m in enumerate(made.members)]


def test_256_contributors_of_2048_extreme_numbers_are_averaged_in_pages_and_the_next_two_are_refused():
    made, voters = crowd(258, 64)
    extra = [m for m in made.members if m not in voters][:2]
    made.members = [m for m in made.members if m not in extra]
    for pattern in ("turns", "low", "high"):
        updates = extremes(made, pattern)
        attempt = made.committed(updates, voters[0])
        for late in extra:
            with refused("R: full"):
                made.rounds.commit(late, attempt, Update(late.address, updates[0].delta, bytes(32)))
        made.wait(600)
        receipts, *_ = finish(made, attempt, updates, voters)
        assert len(receipts) == 16
        mean = np.frombuffer(made.mean(receipts[-1]), np.int8)
        # 128 times -128 and 128 times 127: floor(-0.5 + 0.5) = 0
        np.testing.assert_array_equal(mean, np.full(2048, {"turns": 0, "low": -128, "high": 127}[pattern], np.int8))
        assert max(r.gas for r in receipts) < 16_777_216


def test_more_deltas_than_the_contract_averages_are_refused_before_they_are_sent():
    with pytest.raises(InputError, match="257 deltas: the contract averages 1 to 256"):
        mean_of([bytes(32)] * 257)
    with pytest.raises(InputError, match="0 deltas"):
        mean_of([])
