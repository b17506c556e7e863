"""What a round's published bytes say of the rounds before: only what can be written, and bounded."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.canonical import decode, encode
from commonprior.defence.exclusion import Exclusion, Strikes
from commonprior.defence.history import History, Version, read_history
from commonprior.defence.layers import Layers
from commonprior.defence.roll_back import RollBack
from commonprior.defence.said import MOST_GAIN, Said, read_said, said_of
from commonprior.errors import MalformedMessage

ACCOUNTS = [bytes([n]) * 20 for n in range(5)]
accounts = st.sampled_from(ACCOUNTS)
losses = st.floats(-MOST_GAIN, MOST_GAIN)
histories = st.builds(
    History,
    st.builds(Strikes, st.dictionaries(accounts, st.integers(0, 99)), st.lists(accounts, unique=True).map(tuple)),
    st.lists(st.builds(Version, st.integers(0, 999), st.binary(min_size=32, max_size=32), losses)).map(tuple),
)


@given(histories)
def test_what_is_written_is_read_again(history):
    assert read_history(decode(encode(history.encode()))) == history


GOOD = History(Strikes({ACCOUNTS[0]: 1, ACCOUNTS[1]: 2}, (ACCOUNTS[0],)), (Version(0, bytes(32), 1.5),)).encode()


@pytest.mark.parametrize("change", [
    {"more": 1}, {"counts": [[ACCOUNTS[0], -1]]}, {"counts": [[ACCOUNTS[0], True]]}, {"counts": [[b"short", 1]]},
    {"counts": [[ACCOUNTS[1], 2], [ACCOUNTS[0], 1]]}, {"counts": [[ACCOUNTS[0], 1], [ACCOUNTS[0], 1]]},
    {"counts": [1]}, {"caught": [b"short"]}, {"caught": [3]}, {"caught": 3}, {"versions": [[0, bytes(31), 1.0]]},
    {"versions": [[-1, bytes(32), 1.0]]}, {"versions": [[0, bytes(32), 1]]}, {"versions": [[True, bytes(32), 1.0]]},
    {"versions": [[0, bytes(32), math.inf]]}, {"versions": [[0, bytes(32), math.nan]]}, {"versions": [[0, bytes(32)]]},
])  # fmt: skip
def test_anything_else_is_refused(change):
    assert read_history(GOOD).strikes.counts[ACCOUNTS[1]] == 2
    with pytest.raises(MalformedMessage):
        read_history({**GOOD, **change})


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=5), st.floats(allow_nan=True))
def test_whatever_a_site_finds_can_be_written_and_what_is_no_number_is_the_worst(gains, loss):
    said = said_of(gains, loss)
    assert read_said(decode(encode([list(said.gains), said.loss, said.signature])), len(gains)) == said
    if math.isnan(loss) or loss == math.inf:
        assert said.loss == MOST_GAIN
    assert all(kept == -MOST_GAIN for kept, gain in zip(said.gains, gains) if math.isnan(gain))


@pytest.mark.parametrize("value", [
    None, [], [[1.0]], [[1.0, 2.0], 1.0, b""], [[1.0], 2 * MOST_GAIN, b""], [[2 * MOST_GAIN], 1.0, b""],
    [[math.nan], 1.0, b""], [[1.0], math.nan, b""], [[1], 1.0, b""], [[1.0], 1, b""], [[1.0], 1.0, 1.0],
    [1.0, 1.0, b""],
])  # fmt: skip
def test_an_opinion_that_is_none_is_refused(value):
    assert read_said([[1.0], 1.0, b"s"], 1) == Said((1.0,), 1.0, b"s")
    with pytest.raises(MalformedMessage, match="expected an opinion: 1 numbers, a loss and a signature"):
        read_said(value, 1)


@given(st.lists(st.tuples(losses, st.dictionaries(accounts, st.booleans()))))
def test_a_history_stays_small_and_leaves_out_whom_the_whole_record_does(rounds):
    layers = Layers(exclusion=Exclusion(after=2, pardons=1), roll_back=RollBack(margin=0.0, rounds=2))
    history, accepted = History(), []
    for number, (loss, contributors) in enumerate(rounds, 1):
        history = history.judged(number, bytes([number % 256]) * 32, {0: loss}, layers).after(contributors, layers)
        accepted.append(contributors)
        assert len(history.versions) <= 3
        assert history.excluded(layers) == layers.excluded(accepted)


def test_layers_that_are_off_keep_nothing():
    off = Layers(exclusion=None, roll_back=None)
    history = History().judged(1, bytes(32), {0: 1.0}, off).after({ACCOUNTS[0]: False}, off)
    assert (history, history.back(off), history.excluded(off)) == (History(), None, frozenset())


def test_after_going_back_the_versions_are_judged_anew():
    layers = Layers(roll_back=RollBack(margin=0.0, rounds=1))
    history = History()
    for number, loss in enumerate([1.0, 0.5, 0.7], 1):
        history = history.judged(number, bytes([number]) * 32, {0: loss}, layers)
        back = history.back(layers)
        history = history.after({}, layers)
    assert back == Version(1, bytes([2]) * 32, 0.5)
    assert history.versions == (back,)
