"""A site's side of an encrypted sum, the key holder's among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from commonprior.canonical import Value, encode
from commonprior.errors import InputError, ProtocolError
from commonprior.frame import open_frame
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Seat, Session, consistency_statement
from commonprior.sums import Csprng, Finished, Guard
from commonprior.sums._consistency import Agreement, agree, commit, require_agreement, sign
from commonprior.sums._he_messages import (
    Sealed,
    commit_early,
    list_digest,
    read_early,
    read_one,
    read_open_request,
)
from commonprior.sums._he_scheme import Cryptosystem, DecryptionKey, EncryptionKey
from commonprior.sums._messages import read_nothing
from commonprior.sums._phases import PhasedParty, Reply

FRAME_BYTES = 1024
"""What a signed frame adds to the bytes in it, at most."""


@dataclass(frozen=True)
class Fresh:
    """Before it saw the public key; the key holder has made its own by then."""

    integers: np.ndarray = field(repr=False)
    held: DecryptionKey | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Committed:
    """Has encrypted and committed to the ciphertexts; nobody has seen them."""

    key: EncryptionKey
    sealed: bytes = field(repr=False)
    held: DecryptionKey | None = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """Has sent its ciphertexts, once everyone was committed to theirs."""

    key: EncryptionKey
    early: Mapping[Seat, bytes]
    commitment: bytes
    held: DecryptionKey | None = field(repr=False)


@dataclass(frozen=True)
class Agreed:
    """The key holder, when it has signed whose ciphertexts are summed."""

    key: EncryptionKey
    early: Mapping[Seat, bytes]
    agreement: Agreement
    held: DecryptionKey = field(repr=False)


@dataclass(frozen=True)
class Done:
    """Has done its part: holds no key and no vector any more."""


@final
class EncryptedParty(PhasedParty):
    """The machine of one site; the site on seat `holder` also holds the key."""

    def __init__(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard,
        cryptosystem: Cryptosystem, holder: Seat,
    ) -> None:  # fmt: skip
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        self._sizes = cryptosystem.sizes(session)
        relayed = len(session.roster) * (self._sizes.sealed + FRAME_BYTES) if seat == holder else 0
        super().__init__(session, seat, identity, Fresh(integers), self._sizes.key + relayed)
        self._csprng, self._guard = csprng, guard
        self._cryptosystem, self._holder = cryptosystem, holder

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        match phase, state:
            case "key", Fresh(held=None) if self._seat == self._holder:
                return self._make_key(state, body)
            case "committed", Fresh() if state.held is not None or self._seat != self._holder:
                return self._commit(state, body)
            case "encrypted", Committed():
                return self._send(state, body)
            case "consistency", Sent():
                return self._agree(state, body)
            case "open", Agreed():
                return self._open(state, body)
            case _:
                raise ProtocolError(
                    f"{phase} request to seat {self._seat}, which is {type(state).__name__.lower()}: it answers each "
                    f"phase once, in order, and only seat {self._holder} holds a key"
                )

    def _make_key(self, state: Fresh, body: Value) -> tuple[Fresh, Reply]:
        read_nothing(body, "key")
        held = self._cryptosystem.generate()
        return Fresh(state.integers, held), Reply({"key": held.public})

    def _commit(self, state: Fresh, body: Value) -> tuple[Committed, Reply]:
        session, seat = self._session, self._seat
        frame = open_frame(read_one(body, "key", self._sizes.key + FRAME_BYTES), session, COORDINATOR)
        if frame.phase != "key" or frame.sender != self._holder:
            raise ProtocolError(
                f"{frame.phase} frame of seat {frame.sender} in the place of the key of seat {self._holder}"
            )
        public = read_one(frame.body, "key", self._sizes.key)
        if state.held is not None and public != state.held.public:
            raise ProtocolError(f"the key relayed for seat {seat} is not the one that it announced")
        key = self._cryptosystem.read_public(public)
        self._guard(frozenset(range(len(session.roster))))
        sealed = key.encrypt(session, state.integers, self._csprng)
        return Committed(key, sealed, state.held), Reply({"commitment": commit_early(session, seat, commit(sealed))})

    def _send(self, state: Committed, body: Value) -> tuple[Sent, Reply]:
        """Let go of the ciphertexts only when everybody else is bound to theirs.

        Ciphertexts can be added and multiplied by numbers without the key: a site that saw another's before it had
        to name its own could enter a multiple of it, and read the other's vector in the sum.
        """
        session, seat = self._session, self._seat
        early, commitment = read_early(body, session), commit(state.sealed)
        if early.get(seat) != commit_early(session, seat, commitment):
            raise ProtocolError(f"the commitment relayed for seat {seat} is not the one that it announced")
        if len(early) < session.threshold or self._holder not in early:
            raise ProtocolError(
                f"commitments of seats {sorted(early)}, expected at least {session.threshold} of them, and that of "
                f"seat {self._holder}, which holds the key"
            )
        self._guard(frozenset(early))
        record = {
            "sum": self._cryptosystem.name, "session": session.hash, "seat": seat, "peers": sorted(early),
            "commitment": commitment,
        }  # fmt: skip
        return (
            Sent(state.key, early, commitment, state.held),
            Reply({"seen": list_digest(session, early), "sealed": state.sealed}, persist=encode(record)),
        )

    def _agree(self, state: Sent, body: Value) -> tuple[Agreed | Done, Reply]:
        agreement = agree(self._session, self._seat, frozenset(state.early), state.commitment, body, self._guard)
        if self._holder not in agreement.survivors:
            raise ProtocolError(
                f"seat {self._holder} holds the key and is not among the survivors {agreement.survivors}"
            )
        if state.held is None:
            return Done(), Reply(sign(self._identity, agreement), done=Finished(agreement.survivors))
        return Agreed(state.key, state.early, agreement, state.held), Reply(sign(self._identity, agreement))

    def _open(self, state: Agreed, body: Value) -> tuple[Done, Reply]:
        """Decrypt one sum, over ciphertexts that their own sites signed for the survivors that were agreed."""
        session = self._session
        signatures, relayed = read_open_request(body, session, self._sizes.sealed)
        require_agreement(session, state.agreement, signatures)
        self._require_agreed(state, relayed)
        sealed = {seat: item.ciphertexts for seat, item in relayed.items()}
        for ciphertexts in sealed.values():
            state.key.require_sound(session, ciphertexts)
        opening = state.held.open_sum(session, sealed, self._csprng)
        return Done(), Reply({"opening": opening}, done=Finished(state.agreement.survivors))

    def _require_agreed(self, state: Agreed, relayed: Mapping[Seat, Sealed]) -> None:
        session, survivors = self._session, state.agreement.survivors
        commitments = [commit(item.ciphertexts) for item in relayed.values()]
        if tuple(relayed) != survivors:
            raise ProtocolError(f"ciphertexts of seats {list(relayed)}, expected those of {list(survivors)}")
        if consistency_statement(session, survivors, commitments) != state.agreement.statement:
            raise ProtocolError("the ciphertexts relayed are not the ones that the survivors agreed on")
        seen = list_digest(session, state.early)
        for (seat, item), commitment in zip(relayed.items(), commitments):
            if item.seen != seen:
                raise ProtocolError(
                    f"seat {seat} saw other commitments than seat {self._holder} before it sent its own"
                )
            if state.early[seat] != commit_early(session, seat, commitment):
                raise ProtocolError(f"seat {seat} sent other ciphertexts than it had committed to")
