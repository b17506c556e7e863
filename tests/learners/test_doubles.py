"""The contract holds for strangers too: what it asks is nothing that only our own learners could give."""

import pytest

from doubles import FrozenBody, Hebbian, ScoresOnly


@pytest.mark.parametrize("learner", [Hebbian(), FrozenBody(), ScoresOnly()], ids=lambda x: type(x).__name__)
def test_a_stranger_keeps_the_contract(check, learner):
    check(learner)
