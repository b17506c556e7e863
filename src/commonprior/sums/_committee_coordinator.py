"""The coordinator's side of the committee sum: relays what is sealed, and decodes the sum of what was agreed on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from commonprior.canonical import Value, encode
from commonprior.errors import ProtocolError
from commonprior.frame import Frame, open_frame
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums import CONSISTENCY, Aborted, Aggregate
from commonprior.sums._bodies import write_by_seat
from commonprior.sums._committee_check import ROWS, Statement, challenge_of, proves_guilt, statement_bytes
from commonprior.sums._committee_decode import decode
from commonprior.sums._committee_field import WORD, from_field, read_elements
from commonprior.sums._committee_messages import (
    Dealing,
    Header,
    read_channel,
    read_complaints,
    read_dealing,
    read_share_sum,
    read_statement,
)
from commonprior.sums._committee_party import read_header_frame, room
from commonprior.sums._committee_shares import OVERHEAD, Deal
from commonprior.sums._committee_terms import Terms
from commonprior.sums._consistency import Agreement, commit, propose, require_signature
from commonprior.sums._keys import require_points
from commonprior.sums._messages import read_signature
from commonprior.sums._phases import START, Outbox, PhasedCoordinator


class _Key(NamedTuple):
    channel: bytes
    frame: bytes


class _Dealt(NamedTuple):
    dealing: Dealing
    header: Header


class _Stated(NamedTuple):
    statement: Statement
    frame: bytes


class _Summed(NamedTuple):
    share: np.ndarray | None
    frame: bytes


@final
class CommitteeCoordinator(PhasedCoordinator):
    """The coordinator's machine."""

    phases: ClassVar[tuple[str, ...]] = (START, "keys", "shares", "check", "verify", CONSISTENCY, "sums")

    def __init__(self, session: Session, identity: Identity, log: Sequence[tuple[Seat, bytes]], terms: Terms) -> None:
        self._terms = terms
        self._given = Deal(session, (), len(terms.seats), terms.degree, session.length + ROWS)
        self._dealt: Mapping[Seat, _Dealt] = {}
        self._challenge = b""
        self._stated: Mapping[Seat, _Stated] = {}
        self._signatures: Mapping[Seat, bytes] = {}
        self._commitments: Mapping[Seat, bytes] = {}
        self._agreement = Agreement((), b"")
        super().__init__(session, identity, log, room(session, terms))

    def _read(self, phase: str, opened: Frame, frame: bytes) -> object:
        seat, body = opened.sender, opened.body
        match phase:
            case "keys":
                others: dict[Seat, Any] = dict(self._answers)
                channel = read_channel(body)
                require_points([*((other, key.channel) for other, key in others.items()), (seat, channel)])
                return _Key(channel, frame)
            case "shares":
                return self._read_dealing(seat, body)
            case "check":
                statement = read_statement(body, statement_bytes(self._given))
                if statement.challenge != self._challenge or read_elements(statement.values) is None:
                    raise ProtocolError(f"seat {seat} answered another challenge, or with words that are no elements")
                return _Stated(statement, frame)
            case "verify":
                return self._read_complaints(seat, body)
            case "consistency":
                signature = read_signature(body)
                require_signature(self._session, seat, self._agreement.statement, signature)
                return signature
            case _:
                return self._read_sum(seat, body, frame)

    def _next(self, phase: str, answers: Mapping[Seat, Any]) -> Outbox | Aggregate | Aborted:
        match phase:
            case "start":
                return dict.fromkeys(range(len(self._session.roster)))
            case "keys":
                self._given = self._given._replace(holders=tuple(s for s in self._terms.seats if s in answers))
                relayed: Value = {"keys": [answer.frame for answer in answers.values()]}
                return dict.fromkeys(answers, relayed)
            case "shares":
                self._dealt = answers
                headers = {seat: answer.dealing.header for seat, answer in answers.items()}
                self._challenge = challenge_of(self._given, headers)
                return {
                    seat: {"headers": list(headers.values()), "packets": write_by_seat(self._packets_for(seat))}
                    for seat in answers
                }
            case "check":
                self._stated = answers
                shown: Value = {"statements": [answer.frame for answer in answers.values()]}
                return dict.fromkeys(answers, shown)
            case "verify":
                return self._propose(answers)
            case "consistency":
                self._signatures = answers
                enough = dict(itertools.islice(answers.items(), self._session.threshold))
                opened: Value = {"signatures": write_by_seat(enough)}
                return dict.fromkeys(answers, opened)
            case _:
                return self._open(answers)

    def _read_dealing(self, seat: Seat, body: Value) -> _Dealt:
        given = self._given
        dealing = read_dealing(body, len(self._session.roster), lambda holder: OVERHEAD + given.share_bytes(holder))
        expected = set(given.holders) - {seat}
        if set(dealing.packets) != expected:
            raise ProtocolError(f"seat {seat} dealt to seats {sorted(dealing.packets)}, expected {sorted(expected)}")
        signer, header = read_header_frame(dealing.header, given)
        if signer != seat:
            raise ProtocolError(f"seat {seat} dealt under the header of seat {signer}")
        return _Dealt(dealing, header)

    def _packets_for(self, seat: Seat) -> dict[Seat, bytes]:
        if seat not in self._given.holders:
            return {}
        return {dealer: answer.dealing.packets[seat] for dealer, answer in self._dealt.items() if dealer != seat}

    def _read_complaints(self, seat: Seat, body: Value) -> dict[Seat, bytes]:
        """Return a holder's complaints; refuse one that claims a proof and has none, and remember whose lie that is."""
        complaints = read_complaints(body, len(self._session.roster))
        strangers = sorted(complaints.keys() - (self._stated.keys() if seat in self._given.holders else set()))
        if strangers:
            raise ProtocolError(f"seat {seat} complains of seats {strangers}, who dealt it nothing that was checked")
        for dealer, salted in complaints.items():
            commitment = self._dealt[dealer].header.commitments[self._given.holders.index(seat)]
            statement = self._stated[dealer].statement
            if salted and not proves_guilt(self._given, dealer, seat, commitment, statement, salted):
                self._culprits.add(seat)
                raise ProtocolError(f"seat {seat} accuses seat {dealer} with a share that proves nothing")
        return complaints

    def _propose(self, complaints: Mapping[Seat, Mapping[Seat, bytes]]) -> Outbox | Aborted:
        """Leave out every dealer whose shares do not hold, proven or not, and propose the others.

        Whether a packet that does not open is its dealer's lie or its receiver's nobody else can tell: the dealer is
        left out unnamed, unless the receiver says so of more dealers than may drop out; then the receiver is.
        """
        proven = {dealer for said in complaints.values() for dealer, salted in said.items() if salted}
        unopened = {seat: {d for d, salted in said.items() if not salted} - proven for seat, said in complaints.items()}
        aside = {seat for seat, dealers in unopened.items() if len(dealers) > self._session.dropouts}
        unproven = {dealer for seat in unopened.keys() - aside for dealer in unopened[seat]}
        self._culprits |= proven
        kept = [seat for seat in complaints if seat not in proven | unproven | aside]
        if len(kept) < self._session.threshold:
            return Aborted(
                f"verify: the shares of seats {sorted(proven)} are not of degree {self._terms.degree}, and seats "
                f"{sorted(s for s, dealers in unopened.items() if dealers)} say that packets of seats "
                f"{sorted(set().union(*unopened.values()))} do not open: {len(kept)} sites are left, "
                f"expected at least {self._session.threshold}",
                tuple(sorted(self._culprits)),
            )
        self._commitments = {seat: commit(self._dealt[seat].dealing.header) for seat in kept}
        self._agreement, proposal = propose(self._session, self._commitments)
        return dict.fromkeys(kept, proposal)

    def _read_sum(self, seat: Seat, body: Value, frame: bytes) -> _Summed:
        if seat not in self._given.holders:
            read_share_sum(body, 0)
            return _Summed(None, frame)
        share = read_elements(read_share_sum(body, WORD.itemsize * self._session.length))
        if share is None:
            self._culprits.add(seat)
            raise ProtocolError(f"seat {seat} sent words that are no elements of the field")
        return _Summed(share, frame)

    def _open(self, answers: Mapping[Seat, _Summed]) -> Aggregate | Aborted:
        shares = {seat: answer.share for seat, answer in answers.items() if answer.share is not None}
        decoded = decode(shares, self._terms.degree)
        culprits = tuple(sorted(self._culprits))
        if decoded is None:
            named = (len(shares) - self._terms.degree - 1) // 2
            return Aborted(
                f"sums: the answers of aggregators {list(shares)} do not lie on one polynomial of degree "
                f"{self._terms.degree}: more of them lie than the {named} whom {len(shares)} answers can name",
                culprits,
            )
        self._culprits |= decoded.liars
        value, survivors = from_field(decoded.value), self._agreement.survivors
        largest, bound = int(np.abs(value).max()), len(survivors) * self._session.encoding.limit
        if largest > bound:
            return Aborted(
                f"sums: a coordinate of the sum is {largest}, over {bound} = {len(survivors)} sites of up to "
                f"{self._session.encoding.limit}: someone shared more than its encoding allows",
                tuple(sorted(self._culprits)),
            )
        told = {"degree": self._terms.degree, "culprits": sorted(self._culprits)}
        return Aggregate(
            value,
            survivors,
            tuple(self._commitments[seat] for seat in survivors),
            self._agreement.statement,
            tuple(self._signatures.items()),
            (encode(told), *(answers[seat].frame for seat in shares)),
            culprits=tuple(sorted(self._culprits)),
        )


def decode_again(session: Session, terms: Terms, parts: Sequence[bytes]) -> np.ndarray:
    """Return the sum [d] int64 from `Aggregate.parts`; raise `ProtocolError` where they do not give one."""
    shares: dict[Seat, np.ndarray] = {}
    for frame in parts[1:]:
        opened = open_frame(frame, session, COORDINATOR)
        share = read_elements(read_share_sum(opened.body, WORD.itemsize * session.length))
        if opened.phase != "sums" or opened.sender not in terms.seats or share is None:
            raise ProtocolError(f"a {opened.phase} frame of seat {opened.sender} in the place of an aggregator's sum")
        shares[opened.sender] = share
    least = max(terms.degree + 2, len(terms.seats) - session.dropouts)
    if len(shares) < least:  # fewer could be chosen until they fit a sum of somebody's liking
        raise ProtocolError(f"the answers of {len(shares)} aggregators, expected at least {least}")
    decoded = decode(shares, terms.degree)
    if decoded is None:
        raise ProtocolError(f"the answers of {len(shares)} aggregators do not lie on one polynomial")
    return from_field(decoded.value)
