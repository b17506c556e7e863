"""What every sum's machines do alike: one request and one answer a phase, cached, in order, replayable.

The coordinator asks (a signed frame to each seat), collects and closes; a site answers each request once, in order, and
repeats that very answer for the very same request. Nothing here knows what is summed or how it is hidden.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from commonprior.canonical import Value
from commonprior.errors import IdentityError, MalformedMessage, ProtocolError
from commonprior.frame import Frame, open_frame, seal
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums import Aborted, Aggregate, Finished, Step

START = "start"
"""The phase before the first: nobody answers in it, and closing it sends the first requests."""

_CLOSE = "close"
_ENVELOPE = 4096
_PER_SEAT = 1024

Outbox: TypeAlias = Mapping[Seat, Value]
"""The body of the next request, for each seat that is still taken along."""


class Reply(NamedTuple):
    """A party's answer: the frame's body, what the disk must have first, and whether its part ends here."""

    body: Value
    persist: bytes = b""
    done: Finished | None = None


class PhasedParty(abc.ABC):
    """A site's side: answers the coordinator's requests in order. `room` is what the longest one needs beside seats."""

    def __init__(self, session: Session, seat: Seat, identity: Identity, state: object, room: int = 0) -> None:
        if not 0 <= seat < len(session.roster) or session.key_of(seat) != identity.key:
            raise IdentityError(
                f"identity {identity.key.hex()[:16]}… does not sit on seat {seat} of a roster of "
                f"{len(session.roster)}; take the seat that the roster gives it"
            )
        self._session = session
        self._seat = seat
        self._identity = identity
        self._state = state
        self._limit = _ENVELOPE + _PER_SEAT * len(session.roster) + room
        self._answered: dict[bytes, Step] = {}
        self._left = False

    def receive(self, sender: Seat, frame: bytes) -> Step:
        """Answer a request. The same bytes get the same Step again, `persist` included: write that once, send it again.

        Raises `ProtocolError` on a request that breaks the protocol and whatever the guard raises; then nothing
        has changed and nothing is answered.
        """
        if self._left:
            raise ProtocolError(f"seat {self._seat} has left this attempt and answers nothing more")
        request = hashlib.sha256(frame).digest()
        if request in self._answered:
            return self._answered[request]
        opened = open_frame(frame, self._session, self._seat, self._limit)
        if sender != COORDINATOR or opened.sender != COORDINATOR:
            raise ProtocolError(
                f"{opened.phase} request from seat {opened.sender}, brought by seat {sender}: only the coordinator asks"
            )
        state, reply = self._answer(opened.phase, self._state, opened.body)
        answer = seal(self._identity, self._session, opened.phase, self._seat, COORDINATOR, reply.body)
        step = Step(reply.persist, ((COORDINATOR, answer),), reply.done)
        self._state = state
        self._answered[request] = step
        return step

    def close(self, phase: str) -> Step:
        """Leave the attempt because `phase` took too long: forget every secret, answer nothing more."""
        self._left = True
        self._state = None
        self._answered.clear()
        return Step(done=Aborted(f"{phase}: seat {self._seat} stopped waiting"))

    @abc.abstractmethod
    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        """Return the next state and the reply; raise, having changed nothing, where the request does not hold."""


class PhasedCoordinator(abc.ABC):
    """The coordinator's side: collects one answer a seat and phase, then closes the phase for good.

    `room` is what the longest answer needs beyond a vector of words.
    """

    phases: ClassVar[tuple[str, ...]]

    def __init__(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]], room: int = 0) -> None:
        if identity.key != session.coordinator:
            raise IdentityError(
                f"identity {identity.key.hex()[:16]}… is not the session's coordinator "
                f"{session.coordinator.hex()[:16]}…; run it with the coordinator's own"
            )
        self._session = session
        self._identity = identity
        self._limit = _ENVELOPE + _PER_SEAT * len(session.roster) + session.length * session.encoding.width + room
        self._asked: frozenset[Seat] = frozenset()
        self._answers: dict[Seat, object] = {}
        self._seen: dict[tuple[str, Seat], bytes] = {}
        self._closed: dict[str, Step] = {}
        self._done: Aggregate | Aborted | None = None
        self._culprits: set[Seat] = set()
        for seat, record in log:
            self._replay(seat, record)

    def receive(self, sender: Seat, frame: bytes) -> Step:
        """Take one answer. Its Step's `persist` is the frame, where a restarted coordinator would need it.

        Repeats and answers that come too late change nothing. Two different signed answers of one seat in one phase
        end the attempt and name the seat. Raises `ProtocolError` on an answer that breaks the protocol.
        """
        opened = open_frame(frame, self._session, COORDINATOR, self._limit)
        if opened.sender != sender or sender == COORDINATOR:
            raise ProtocolError(f"{opened.phase} frame signed by seat {opened.sender}, brought by seat {sender}")
        if opened.phase not in self.phases[1:]:
            raise MalformedMessage(f"{opened.phase!r} is no phase of this sum; expected {', '.join(self.phases[1:])}")
        seen = self._seen.get((opened.phase, sender))
        if self._done is not None or seen == opened.statement:
            return Step()
        if seen is not None:
            name = self._session.roster[sender].name
            self._done = Aborted(
                f"{opened.phase}: seat {sender} ({name}) signed two different answers: it lies, or restarted and came "
                f"back into the same attempt",
                (sender,),
            )
            return Step(frame, done=self._done)
        if opened.phase in self._closed:
            return Step()
        if opened.phase != self._phase or sender not in self._asked:
            raise ProtocolError(f"{opened.phase} answer of seat {sender} was not asked for; {self._phase} is open")
        self._answers[sender] = self._read(opened.phase, opened, frame)
        self._seen[opened.phase, sender] = opened.statement
        return Step(frame)

    def close(self, phase: str) -> Step:
        """Close a phase for good and return the next requests, or how it ended; again: the same Step."""
        if phase in self._closed:
            return self._closed[phase]
        if self._done is not None:
            return Step(done=self._done)
        if phase != self._phase:
            raise ProtocolError(f"{phase!r} cannot be closed while {self._phase} is open")
        step = self._advance(phase)
        self._done = step.done if isinstance(step.done, Aggregate | Aborted) else None
        self._closed[phase] = step
        self._answers = {}
        return step

    @abc.abstractmethod
    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        """Return a checked answer; raise `ProtocolError` where it does not hold."""

    @abc.abstractmethod
    def _next(self, phase: str, answers: Mapping[Seat, object]) -> Outbox | Aggregate | Aborted:
        """Return what follows a phase that at least the threshold answered (all, where fewer were asked), by seat."""

    @property
    def _phase(self) -> str:
        """The phase that is open."""
        return self.phases[min(len(self._closed), len(self.phases) - 1)]

    def _advance(self, phase: str) -> Step:
        n, t = len(self._session.roster), min(self._session.threshold, len(self._asked))
        record = seal(self._identity, self._session, _CLOSE, COORDINATOR, COORDINATOR, phase)
        if phase != START and len(self._answers) < t:
            why = f"{phase}: {len(self._answers)} of {n} sites answered, expected at least {t}"
            return Step(record, done=Aborted(why, tuple(sorted(self._culprits))))
        following = self._next(phase, {seat: self._answers[seat] for seat in sorted(self._answers)})
        if isinstance(following, Aggregate | Aborted):
            return Step(record, done=following)
        self._asked = frozenset(following)
        after = self.phases[self.phases.index(phase) + 1]
        requests = [
            (seat, seal(self._identity, self._session, after, COORDINATOR, seat, body))
            for seat, body in following.items()
        ]
        return Step(record, requests)

    def _replay(self, seat: Seat, record: bytes) -> None:
        """Take one line of the log; what was refused then is refused, and passed over, again."""
        with contextlib.suppress(ProtocolError):
            opened = open_frame(record, self._session, COORDINATOR, self._limit)
            closing = opened.sender == COORDINATOR and opened.phase == _CLOSE
            phase = str(opened.body) if closing else opened.phase
            if phase not in self.phases:
                return
            while self._done is None and self.phases.index(self._phase) < self.phases.index(phase):
                self.close(self._phase)
            if closing:
                self.close(phase)
            else:
                self.receive(seat, record)
