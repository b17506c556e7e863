"""A sum in the open: for comparison, and where updates are public anyway.

The coordinator sees every site's integers. The discipline is that of the secure sums (signed frames, commitments,
threshold signatures over who is summed), so that a record of it has the same shape and is checked in the same way.

    start        nobody answers; closing it asks for values
    values       site -> coordinator  its vector, signed
    consistency  site -> coordinator  its signature over (session, survivors, commitments to their vectors)

A site's guard is called with the whole roster before its vector leaves, as nobody can tell yet who will answer, and
with the survivors before it signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np

from commonprior.canonical import Value, encode
from commonprior.errors import InputError, ProtocolError
from commonprior.frame import Frame
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import CONSISTENCY, Aborted, Aggregate, Csprng, Draw, Finished, Guard, Machine, SecureSum
from commonprior.sums._consistency import Agreement, agree, commit, propose, require_committed, require_signature, sign
from commonprior.sums._masks import to_words
from commonprior.sums._messages import read_nothing, read_signature, read_values
from commonprior.sums._phases import START, Outbox, PhasedCoordinator, PhasedParty, Reply


@final
@dataclass(frozen=True)
class Plain(SecureSum):
    """No protection at all: `insecure` says so in every output."""

    phases: ClassVar[tuple[str, ...]] = (START, "values", CONSISTENCY)
    insecure: ClassVar[str] = "not a secure sum: it shows the coordinator every site's update in the open"
    trust: ClassVar[str] = "everyone trusts the coordinator with every update, and with the sum"

    def check(self, session: Session) -> None:
        """Refuse nothing: any session will do to add numbers in the open."""

    def party(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> Machine:
        """Return the machine of the site on `seat`; nothing is hidden, so `csprng` is not asked."""
        return _PlainParty(session, seat, identity, integers, guard)

    def coordinator(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]] = ()) -> Machine:
        """Return the coordinator's machine; `log` holds (seat, `Step.persist`) in order."""
        return _PlainCoordinator(session, identity, log)

    def recompute(
        self, session: Session, commitments: Mapping[Seat, bytes], parts: Sequence[bytes], draw: Draw = ()
    ) -> np.ndarray:
        """Return the sum [d] of the vectors that the sites committed to."""
        words = require_committed(commitments, parts)
        if any(len(given) != session.length * session.encoding.width for given in parts):
            raise ProtocolError(f"expected vectors of {session.length} numbers of {session.encoding.width} bytes")
        return _added(session, words.values())


@dataclass(frozen=True)
class _Fresh:
    integers: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class _Sent:
    commitment: bytes


@final
class _PlainParty(PhasedParty):
    def __init__(self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, guard: Guard) -> None:
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        super().__init__(session, seat, identity, _Fresh(integers))
        self._guard = guard

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        session, everyone = self._session, frozenset(range(len(self._session.roster)))
        match phase, state:
            case "values", _Fresh():
                read_nothing(body, "values")
                self._guard(everyone)
                words = to_words(state.integers, session.encoding).tobytes()
                commitment = commit(words)
                record = {"sum": "plain", "session": session.hash, "seat": self._seat, "commitment": commitment}
                return _Sent(commitment), Reply({"words": words}, persist=encode(record))
            case "consistency", _Sent():
                agreement = agree(session, self._seat, everyone, state.commitment, body, self._guard)
                return None, Reply(sign(self._identity, agreement), done=Finished(agreement.survivors))
            case _:
                raise ProtocolError(f"{phase} request to seat {self._seat}: it answers each phase once, in order")


def _added(session: Session, words: Iterable[bytes]) -> np.ndarray:
    """Return the sum [d] int64 of vectors of words."""
    encoding = session.encoding
    total = np.zeros(session.length, encoding.word)
    for given in words:
        np.add(total, np.frombuffer(given, encoding.word), out=total)
    return encoding.from_words(total)


@final
class _PlainCoordinator(PhasedCoordinator):
    phases: ClassVar[tuple[str, ...]] = Plain.phases

    def __init__(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]]) -> None:
        self._words: Mapping[Seat, bytes] = {}
        self._commitments: Mapping[Seat, bytes] = {}
        self._agreement = Agreement((), b"")
        super().__init__(session, identity, log)

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        if phase == "values":
            return read_values(opened.body, self._session.length * self._session.encoding.width)
        signature = read_signature(opened.body)
        require_signature(self._session, opened.sender, self._agreement.statement, signature)
        return signature

    def _next(self, phase: str, answers: Mapping[Seat, Any]) -> Outbox | Aggregate | Aborted:
        match phase:
            case "start":
                return dict.fromkeys(range(len(self._session.roster)))
            case "values":
                self._words = answers
                self._commitments = {seat: commit(words) for seat, words in answers.items()}
                self._agreement, proposal = propose(self._session, self._commitments)
                return dict.fromkeys(answers, proposal)
            case _:
                return self._aggregate(answers)

    def _aggregate(self, signatures: Mapping[Seat, bytes]) -> Aggregate:
        return Aggregate(
            _added(self._session, self._words.values()),
            tuple(self._words),
            tuple(self._commitments.values()),
            self._agreement.statement,
            tuple(signatures.items()),
            tuple(self._words.values()),
        )
