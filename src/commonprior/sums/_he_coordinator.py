"""The coordinator's side of an encrypted sum: relays keys, commitments and ciphertexts, and learns the sum alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from commonprior.canonical import Value
from commonprior.errors import ProtocolError
from commonprior.frame import Frame
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import CONSISTENCY, Aborted, Aggregate
from commonprior.sums._bodies import write_by_seat
from commonprior.sums._consistency import Agreement, commit, propose, require_committed, require_signature
from commonprior.sums._he_messages import commit_early, list_digest, read_commitment, read_one, read_sealed
from commonprior.sums._he_party import FRAME_BYTES
from commonprior.sums._he_scheme import Cryptosystem, EncryptionKey
from commonprior.sums._messages import read_signature
from commonprior.sums._phases import START, Outbox, PhasedCoordinator


class _Key(NamedTuple):
    key: EncryptionKey
    public: bytes
    frame: bytes


class _Committed(NamedTuple):
    commitment: bytes
    frame: bytes


class _Sealed(NamedTuple):
    ciphertexts: bytes
    frame: bytes


class _Opened(NamedTuple):
    value: np.ndarray
    opening: bytes


@final
class EncryptedCoordinator(PhasedCoordinator):
    """The coordinator's machine; the site on seat `holder` holds the key."""

    phases: ClassVar[tuple[str, ...]] = (START, "key", "committed", "encrypted", CONSISTENCY, "open")

    def __init__(
        self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]], cryptosystem: Cryptosystem,
        holder: Seat,
    ) -> None:  # fmt: skip
        self._sizes = cryptosystem.sizes(session)
        self._cryptosystem, self._holder = cryptosystem, holder
        self._key: Mapping[Seat, _Key] = {}
        self._early: Mapping[Seat, _Committed] = {}
        self._sealed: Mapping[Seat, _Sealed] = {}
        self._signatures: Mapping[Seat, bytes] = {}
        self._commitments: Mapping[Seat, bytes] = {}
        self._agreement = Agreement((), b"")
        super().__init__(session, identity, log, max(self._sizes) + FRAME_BYTES)

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        match phase:
            case "key":
                public = read_one(opened.body, "key", self._sizes.key)
                return _Key(self._cryptosystem.read_public(public), public, frame)
            case "committed":
                return _Committed(read_commitment(opened.body), frame)
            case "encrypted":
                return self._read_sealed(opened.sender, opened.body, frame)
            case "consistency":
                signature = read_signature(opened.body)
                require_signature(self._session, opened.sender, self._agreement.statement, signature)
                return signature
            case _:
                return self._read_opening(opened.body)

    def _next(self, phase: str, answers: Mapping[Seat, Any]) -> Outbox | Aggregate | Aborted:
        if phase not in (START, CONSISTENCY) and self._holder not in answers:
            name = self._session.roster[self._holder].name
            return Aborted(f"{phase}: seat {self._holder} ({name}), which holds the key, did not answer")
        match phase:
            case "start":
                return {self._holder: None}
            case "key":
                self._key = answers
                shown: Value = {"key": answers[self._holder].frame}
                return dict.fromkeys(range(len(self._session.roster)), shown)
            case "committed":
                self._early = answers
                relayed: Value = {"commitments": [answer.frame for answer in answers.values()]}
                return dict.fromkeys(answers, relayed)
            case "encrypted":
                self._sealed = answers
                self._commitments = {seat: commit(answer.ciphertexts) for seat, answer in answers.items()}
                self._agreement, proposal = propose(self._session, self._commitments)
                return dict.fromkeys(answers, proposal)
            case "consistency":
                self._signatures = answers
                enough = dict(itertools.islice(answers.items(), self._session.threshold))
                frames: list[Value] = [answer.frame for answer in self._sealed.values()]
                return {self._holder: {"signatures": write_by_seat(enough), "sealed": frames}}
            case _:
                return self._aggregate(answers[self._holder])

    def _read_sealed(self, seat: Seat, body: Value, frame: bytes) -> _Sealed:
        session = self._session
        sealed = read_sealed(body, self._sizes.sealed)
        if sealed.seen != list_digest(session, {other: answer.commitment for other, answer in self._early.items()}):
            raise ProtocolError(f"seat {seat} saw other commitments than those that were relayed to it")
        if commit_early(session, seat, commit(sealed.ciphertexts)) != self._early[seat].commitment:
            self._culprits.add(seat)
            raise ProtocolError(f"seat {seat} sent other ciphertexts than it had committed to")
        self._key[self._holder].key.require_sound(session, sealed.ciphertexts)
        return _Sealed(sealed.ciphertexts, frame)

    def _read_opening(self, body: Value) -> _Opened:
        opening = read_one(body, "opening", self._sizes.opening)
        sealed = {seat: answer.ciphertexts for seat, answer in self._sealed.items()}
        try:
            value = self._key[self._holder].key.read_opening(self._session, sealed, opening)
        except ProtocolError:
            self._culprits.add(self._holder)
            raise
        return _Opened(value, opening)

    def _aggregate(self, opened: _Opened) -> Aggregate:
        return Aggregate(
            opened.value,
            tuple(self._sealed),
            tuple(self._commitments.values()),
            self._agreement.statement,
            tuple(self._signatures.items()),
            (*(answer.ciphertexts for answer in self._sealed.values()), opened.opening, self._key[self._holder].public),
            culprits=tuple(sorted(self._culprits)),
        )


def opened_again(
    session: Session, cryptosystem: Cryptosystem, commitments: Mapping[Seat, bytes], parts: Sequence[bytes]
) -> np.ndarray:
    """Return the opened sum [d] int64 from `Aggregate.parts`; raise `ProtocolError` where it does not follow."""
    if len(parts) != len(commitments) + 2:
        raise ProtocolError(f"{len(parts)} parts of an encrypted sum of {len(commitments)} sites")
    *sealed, opening, public = parts
    given, key = require_committed(commitments, sealed), cryptosystem.read_public(public)
    for ciphertexts in sealed:
        key.require_sound(session, ciphertexts)
    return key.read_opening(session, given, opening)
