"""Joint randomness: bound to its context, checked, and uniform; another reading of SHAKE-256 is the witness."""

import hashlib
import itertools
import math
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.sums._draw import Coins, commit_contribution, joint_seed, require_contribution

CONTRIBUTIONS = {0: bytes(32), 2: b"\1" * 32, 5: b"\2" * 32}


def commit(context=b"context", given_=CONTRIBUTIONS):
    return {seat: commit_contribution(context, seat, r) for seat, r in given_.items()}


def words(seed, count):
    """The stream as another reader would take it: blocks of 1024 bytes, words of 8, little-endian."""
    blocks = (
        hashlib.shake_256(b"commonprior/draw/coins/1" + seed + struct.pack("<Q", block)).digest(1024)
        for block in itertools.count()
    )
    return list(itertools.islice((word for block in blocks for (word,) in struct.iter_unpack("<Q", block)), count))


def test_a_contribution_is_opened_for_its_context_and_seat_only():
    commitment = commit_contribution(b"a", 3, bytes(32))
    require_contribution(b"a", 3, commitment, bytes(32))
    for context, seat, contribution in ((b"b", 3, bytes(32)), (b"a", 2, bytes(32)), (b"a", 3, b"\1" * 32)):
        with pytest.raises(ProtocolError, match=f"seat {seat} reveals another contribution"):
            require_contribution(context, seat, commitment, contribution)
    with pytest.raises(ProtocolError, match="seat 3 reveals 31 bytes as its contribution, expected 32"):
        require_contribution(b"a", 3, commit_contribution(b"a", 3, bytes(31)), bytes(31))


def test_the_seed_depends_on_everything_and_on_no_order():
    seed = joint_seed(b"context", commit(), CONTRIBUTIONS)
    assert seed == joint_seed(b"context", commit(), dict(reversed(CONTRIBUTIONS.items())))
    others = [
        joint_seed(b"other", commit(b"other"), CONTRIBUTIONS),
        joint_seed(b"context", commit(), {s: r for s, r in CONTRIBUTIONS.items() if s}),
        *(
            joint_seed(b"context", commit(given_=changed), changed)
            for changed in ({**CONTRIBUTIONS, 2: b"\3" * 32}, {**CONTRIBUTIONS, 7: b"\3" * 32})
        ),
    ]
    assert len({seed, *others}) == 5
    two = {s: r for s, r in CONTRIBUTIONS.items() if s}
    silent = joint_seed(b"context", commit(), two)
    assert silent != joint_seed(b"context", commit(given_=two), two)


def test_a_contribution_without_its_commitment_is_refused():
    for commitments, why in (
        ({s: c for s, c in commit().items() if s != 2}, "seat 2 reveals a contribution and committed to none"),
        ({**commit(), 2: commit()[5]}, "seat 2 reveals another contribution"),
    ):
        with pytest.raises(ProtocolError, match=why):
            joint_seed(b"context", commitments, CONTRIBUTIONS)


@given(seed=st.binary(min_size=32, max_size=32), bound=st.integers(1, 2**64), count=st.integers(1, 200))
def test_draws_are_the_words_of_shake_that_fall_below_a_multiple_of_the_bound(seed, bound, count):
    coins = Coins(seed)
    fair = [word % bound for word in words(seed, 4 * count + 100) if word < 2**64 // bound * bound]
    drawn = [coins.below(bound) for _ in range(min(count, len(fair)))]
    assert drawn == fair[: len(drawn)]


@given(seed=st.binary(min_size=32, max_size=32), n=st.integers(1, 30), data=st.data())
def test_a_sample_has_distinct_items_and_all_of_them_is_a_shuffle(seed, n, data):
    count = data.draw(st.integers(0, n))
    items = [f"item {i}" for i in range(n)]
    drawn = Coins(seed).sample(items, count)
    assert len(set(drawn)) == count
    assert set(drawn) <= set(items)
    assert sorted(Coins(seed).sample(items, n)) == sorted(items)


@pytest.mark.parametrize(("n", "count"), [(5, 2), (5, 3), (4, 4)])
def test_every_ordered_sample_is_as_likely_as_every_other(n, count):
    """Chi-square over all outcomes of 20,000 samples, at a level of about 1e-6; the seeds are fixed."""
    trials, outcomes = 20_000, math.perm(n, count)
    seen = Counter(tuple(Coins(digest(["sample", trial])).sample(range(n), count)) for trial in range(trials))
    expected = trials / outcomes
    square = sum((seen[o] - expected) ** 2 / expected for o in itertools.permutations(range(n), count))
    assert len(seen) == outcomes
    assert square < outcomes - 1 + 5 * math.sqrt(2 * (outcomes - 1)) + 10


def test_exactly_the_words_that_would_favour_some_are_thrown_away(monkeypatch):
    """With words of 8 bits: every outcome comes of the same number of words, for every bound."""
    monkeypatch.setattr("commonprior.sums._draw._WORD", 256)
    for bound in range(1, 257):
        taken = Counter()
        for word in range(256):
            coins = Coins(bytes(32))
            coins._words = [0, word]
            drawn = coins.below(bound)
            if len(coins._words) == 1:
                taken[drawn] += 1
        assert set(taken.values()) == {256 // bound}
        assert len(taken) == bound
