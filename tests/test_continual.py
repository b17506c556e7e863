"""Figures of a stream, by hand."""

import numpy as np
import pytest

from commonprior.continual import transfer
from commonprior.errors import DataError


def test_a_learner_that_forgets_by_hand():
    scores = [
        [0.1, 0.2, 0.3],  # untrained
        [0.9, 0.3, 0.3],
        [0.6, 0.8, 0.5],
        [0.5, 0.7, 0.9],
    ]
    got = transfer(np.array(scores))
    assert got.final == pytest.approx(0.7)
    assert got.forgetting == pytest.approx((0.4 + 0.1) / 2)
    assert got.backward == pytest.approx(-(0.4 + 0.1) / 2)
    assert got.forward == pytest.approx((0.1 + 0.2) / 2)


def test_what_got_better_later_counts_as_negative_forgetting_and_positive_backward():
    got = transfer(np.array([[0, 0], [0.5, 0.1], [0.8, 0.6]]))
    assert (got.forgetting, got.backward) == pytest.approx((-0.3, 0.3))


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (2, 1), (4,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="expected"):
        transfer(np.zeros(shape))
