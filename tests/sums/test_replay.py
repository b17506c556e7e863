"""A coordinator that restarts: its log brings back the same attempt, and nothing is released twice."""

import numpy as np
import pytest

from commonprior.session import COORDINATOR
from commonprior.sums import Aggregate
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain

SUMS = pytest.mark.parametrize("kind", [Masked(), Plain()], ids=["masked", "plain"])


def restart(attempt, log=None):
    attempt.coordinator = attempt.sum.coordinator(attempt.session, attempt.coordinator._identity, log or attempt.log)


@SUMS
def test_it_goes_on_after_a_restart_in_any_phase_with_identical_requests(play, kind):
    for phase in kind.phases[1:]:
        attempt = play(n=5, play={"sum": kind}).until(phase)
        sent = dict(attempt.outbox)
        attempt.tell(phase, 2, attempt.ask(2, attempt.outbox[2]))
        restart(attempt)
        earlier = kind.phases[kind.phases.index(phase) - 1]
        assert dict(attempt.coordinator.close(earlier).send) == sent
        done = attempt.finish({1: phase}, start=phase)
        assert done.survivors == ((0, 1, 2, 3, 4) if phase in ("consistency", "unmask") else (0, 2, 3, 4))
        np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


@SUMS
def test_a_restart_after_every_single_frame(play, kind):
    attempt, step = play(play={"sum": kind}), None
    for phase in kind.phases:
        for seat, request in attempt.outbox.items():
            attempt.tell(phase, seat, attempt.ask(seat, request))
            restart(attempt)
        step = attempt.close(phase)
        restart(attempt)
    done = step.done if step else None
    assert isinstance(done, Aggregate)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors))
    again = attempt.coordinator.close(kind.phases[-1]).done
    np.testing.assert_array_equal(again.value, done.value)
    assert again[1:] == done[1:]


def test_a_phase_that_was_closed_stays_closed_though_nobody_answered_the_next(play):
    attempt = play(n=5).until("masked")
    late = attempt.ask(4, attempt.outbox[4])
    attempt.hold("masked", absent=[4])
    asked = dict(attempt.outbox)
    restart(attempt)
    attempt.coordinator.receive(4, late)
    assert dict(attempt.coordinator.close("masked").send) == asked


@SUMS
def test_frames_alone_bring_it_back_too(play, kind):
    """A frame of a later phase closes the earlier ones."""
    attempt = play(n=5, play={"sum": kind})
    done = attempt.finish({3: kind.phases[1]})
    frames = [(seat, record) for seat, record in attempt.log if seat != COORDINATOR]
    restart(attempt, frames)
    again = attempt.coordinator.close(kind.phases[-1]).done
    np.testing.assert_array_equal(again.value, done.value)
    assert again[1:] == done[1:]


def test_refused_frames_in_the_log_are_refused_again(play):
    attempt = play().until("masked")
    bad = attempt.answer("masked", 1, {"peers": [0], "words": b""})
    restart(attempt, [*attempt.log, (1, bad), (2, b"no frame"), (3, attempt.outbox[3])])
    assert isinstance(attempt.finish(start="masked"), Aggregate)


def test_a_named_liar_is_named_again(play):
    attempt = play().until("masked")
    body = attempt.body(attempt.ask(2, attempt.outbox[2]))
    for words in (body["words"], bytes(len(body["words"]))):
        step = attempt.tell("masked", 2, attempt.answer("masked", 2, {**body, "words": words}))
    restart(attempt)
    assert attempt.coordinator.close("masked").done == step.done


def test_an_aborted_attempt_stays_aborted(play):
    attempt = play()
    done = attempt.finish({0: "masked", 1: "masked"})
    restart(attempt)
    assert attempt.coordinator.close("masked").done == done
    assert attempt.coordinator.close("consistency").done == done
