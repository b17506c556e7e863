"""A site's side of the committee sum: a dealer always, an aggregator where it sits on the committee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import Value, encode
from commonprior.errors import InputError, ProtocolError
from commonprior.frame import seal
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums import Csprng, Finished, Guard
from commonprior.sums._bodies import open_keys, open_relayed, write_by_seat
from commonprior.sums._committee_check import (
    ROWS,
    agrees,
    challenge_of,
    coefficients_of,
    combinations,
    state,
    statement_bytes,
)
from commonprior.sums._committee_field import WORD, add_up, expand, to_field
from commonprior.sums._committee_messages import (
    KEY_BYTES,
    Header,
    read_channel,
    read_header,
    read_relayed,
    read_statement,
    read_statement_frames,
)
from commonprior.sums._committee_shares import (
    OVERHEAD,
    SALT_BYTES,
    Deal,
    commit_share,
    deal,
    open_packet,
    open_share,
    seal_packet,
)
from commonprior.sums._committee_terms import Terms
from commonprior.sums._consistency import Agreement, agree, commit, require_agreement, sign
from commonprior.sums._keys import require_points
from commonprior.sums._messages import read_key_frames, read_nothing, read_signatures, read_survivors
from commonprior.sums._phases import PhasedParty, Reply

HEADER = "header"
_FRAME_BYTES = 512


class Held(NamedTuple):
    """What a holder was dealt: the salted share as committed to, its elements [d + ROWS], and their combination.

    `share` is None where the dealer committed to what is no share.
    """

    salted: bytes
    share: np.ndarray | None
    combination: list[int]

    def __repr__(self) -> str:
        return "Held(…)"


@dataclass(frozen=True)
class Fresh:
    """Before anything was said."""

    integers: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Keyed:
    """Has announced the key to which its packets are sealed."""

    integers: np.ndarray = field(repr=False)
    channel: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True)
class Dealt:
    """Has shared its vector out and forgotten it; knows its polynomial's values at 0 to t."""

    given: Deal
    channel: X25519PrivateKey = field(repr=False)
    keyed: frozenset[Seat]
    values: tuple[np.ndarray, ...] = field(repr=False)
    own: bytes = field(repr=False)
    header: bytes


@dataclass(frozen=True)
class Checked:
    """Has published its masked combination; holds a share of everyone (None: would not open)."""

    given: Deal
    challenge: bytes
    commitments: Mapping[Seat, bytes]
    held: Mapping[Seat, Held | None] = field(repr=False)


@dataclass(frozen=True)
class Verified:
    """Has said which dealers' shares do not hold; holds those of the others (none where it is no aggregator)."""

    approved: frozenset[Seat]
    commitments: Mapping[Seat, bytes]
    shares: Mapping[Seat, np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Agreed:
    """Has signed whose inputs are summed: once, for good."""

    agreement: Agreement
    shares: Mapping[Seat, np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Released:
    """Has given its sum of shares, if it is an aggregator; holds nothing any more."""


def room(session: Session, terms: Terms) -> int:
    """Return how many bytes the longest request or answer takes at most: a full share and a header of every site."""
    share = OVERHEAD + WORD.itemsize * (session.length + ROWS)
    header = _FRAME_BYTES + 64 * len(terms.seats)
    return len(session.roster) * (share + header + 2 * WORD.itemsize * ROWS * (terms.degree + 1))


def read_header_frame(frame: bytes, given: Deal) -> tuple[Seat, Header]:
    """Return whose header this is and what it says; raise `ProtocolError` where it is not for the holders at hand."""
    opened = open_relayed(frame, given.session, HEADER)
    header = read_header(opened.body, len(given.session.roster))
    if header.holders != given.holders:
        raise ProtocolError(
            f"seat {opened.sender} dealt to seats {list(header.holders)}, expected the holders {list(given.holders)}"
        )
    return opened.sender, header


@final
class CommitteeParty(PhasedParty):
    """The machine of one site."""

    def __init__(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard,
        terms: Terms,
    ) -> None:  # fmt: skip
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        super().__init__(session, seat, identity, Fresh(integers), room(session, terms))
        self._csprng, self._guard, self._terms = csprng, guard, terms

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        match phase, state:
            case "keys", Fresh():
                read_nothing(body, "keys")
                channel = X25519PrivateKey.from_private_bytes(self._csprng(KEY_BYTES))
                return Keyed(state.integers, channel), Reply({"channel": channel.public_key().public_bytes_raw()})
            case "shares", Keyed():
                return self._deal(state, body)
            case "check", Dealt():
                return self._check(state, body)
            case "verify", Checked():
                return self._verify(state, body)
            case "consistency", Verified():
                return self._agree(state, body)
            case "sums", Agreed():
                return self._release(state, body)
            case _:
                raise ProtocolError(
                    f"{phase} request to seat {self._seat}, which is {type(state).__name__.lower()}: it answers each "
                    f"phase once, in order, and never takes up an attempt that it did not begin"
                )

    def _deal(self, state: Keyed, body: Value) -> tuple[Dealt, Reply]:
        session, seat, degree = self._session, self._seat, self._terms.degree
        keys = open_keys(read_key_frames(body, len(session.roster)), session, read_channel)
        if keys.get(seat) != state.channel.public_key().public_bytes_raw():
            raise ProtocolError(f"the key relayed for seat {seat} is not the one that it announced")
        require_points(keys.items())
        self._require_enough("keys", len(keys))
        holders = tuple(s for s in self._terms.seats if s in keys)
        given = Deal(session, holders, len(self._terms.seats), degree, session.length + ROWS)
        self._guard(frozenset(keys))
        secret = np.empty(given.length, WORD)
        to_field(state.integers, session.encoding.limit, secret[:-ROWS])
        secret[-ROWS:] = expand(self._csprng(KEY_BYTES), ROWS)
        dealt = deal(given, seat, secret, self._csprng)
        salted = dealt.salted
        commitments = [commit_share(session, seat, holder, share) for holder, share in salted.items()]
        says: Value = {"holders": list(given.holders), "commitments": commitments}
        header = seal(self._identity, session, HEADER, seat, COORDINATOR, says)
        own = bytes(salted.pop(seat, b""))
        packets = {holder: seal_packet(session, seat, holder, keys[holder], share) for holder, share in salted.items()}
        record = {"sum": "committee", "session": session.hash, "seat": seat, "commitment": commit(header)}
        return (
            Dealt(given, state.channel, frozenset(keys), dealt.values, own, header),
            Reply({"header": header, "packets": write_by_seat(packets)}, persist=encode(record)),
        )

    def _check(self, held: Dealt, body: Value) -> tuple[Checked, Reply]:
        given, seat = held.given, self._seat
        relayed = read_relayed(body, len(self._session.roster))
        frames, headers = self._read_headers(held, relayed.headers)
        strangers = sorted(set(relayed.packets) - (set(headers) - {seat} if self._holds(given) else set()))
        if strangers:
            raise ProtocolError(f"packets of seats {strangers}, expected only dealers to this aggregator")
        self._require_enough("shares", len(headers))
        self._guard(frozenset(headers))
        challenge = challenge_of(given, frames)
        coefficients = coefficients_of(given, challenge)
        shares = self._open_shares(held, headers, relayed.packets, coefficients) if self._holds(given) else {}
        commitments = {dealer: commit(frame) for dealer, frame in frames.items()}
        reply = Reply(state(challenge, coefficients, held.values)._asdict())
        return Checked(given, challenge, commitments, shares), reply

    def _verify(self, state: Checked, body: Value) -> tuple[Verified, Reply]:
        given, statements = state.given, {}
        for frame in read_statement_frames(body, len(self._session.roster)):
            opened = open_relayed(frame, self._session, "check")
            statement = read_statement(opened.body, statement_bytes(given))
            if opened.sender not in state.commitments or opened.sender in statements:
                raise ProtocolError(f"a statement of seat {opened.sender}, expected one of each dealer")
            if statement.challenge != state.challenge:
                raise ProtocolError(f"seat {opened.sender} answered another challenge than the one over its peers")
            statements[opened.sender] = statement
        complaints: dict[Seat, bytes] = {}
        shares: dict[Seat, np.ndarray] = {}
        for dealer, statement in statements.items() if self._holds(given) else ():
            held = state.held[dealer]
            if held is None:
                complaints[dealer] = b""
            elif held.share is None or not agrees(given, self._seat, statement, held.combination):
                complaints[dealer] = held.salted
            else:
                shares[dealer] = held.share[:-ROWS]
        approved = frozenset(statements) - complaints.keys()
        return Verified(approved, state.commitments, shares), Reply({"complaints": write_by_seat(complaints)})

    def _agree(self, state: Verified, body: Value) -> tuple[Agreed, Reply]:
        survivors, commitments = read_survivors(body, len(self._session.roster))
        for dealer, commitment in zip(survivors, commitments, strict=True):
            if dealer in state.approved and commitment != state.commitments[dealer]:
                raise ProtocolError(f"the commitment given for seat {dealer} is not to the shares that it dealt")
        own = state.commitments[self._seat]
        agreement = agree(self._session, self._seat, state.approved, own, body, self._guard)
        shares = {dealer: share for dealer, share in state.shares.items() if dealer in survivors}
        return Agreed(agreement, shares), Reply(sign(self._identity, agreement))

    def _release(self, state: Agreed, body: Value) -> tuple[Released, Reply]:
        require_agreement(self._session, state.agreement, read_signatures(body, len(self._session.roster)))
        total = add_up(list(state.shares.values())).tobytes() if state.shares else b""
        return Released(), Reply({"sum": total}, done=Finished(state.agreement.survivors))

    def _read_headers(self, held: Dealt, frames: tuple[bytes, ...]) -> tuple[dict[Seat, bytes], dict[Seat, Header]]:
        by_dealer: dict[Seat, bytes] = {}
        headers: dict[Seat, Header] = {}
        for frame in frames:
            dealer, header = read_header_frame(frame, held.given)
            if dealer not in held.keyed or dealer in headers:
                raise ProtocolError(f"a header of seat {dealer}, expected one of each site whose key was relayed")
            by_dealer[dealer], headers[dealer] = frame, header
        if by_dealer.get(self._seat) != held.header:
            raise ProtocolError(f"the header relayed for seat {self._seat} is not the one that it signed")
        return by_dealer, headers

    def _open_shares(
        self, held: Dealt, headers: Mapping[Seat, Header], packets: Mapping[Seat, bytes], coefficients: np.ndarray
    ) -> dict[Seat, Held | None]:
        """Open every packet, compare it with what its dealer committed to, and combine all shares at once."""
        given, seat, salted = held.given, self._seat, {self._seat: held.own}
        place = given.holders.index(seat)
        for dealer, sealed in packets.items():
            opened = open_packet(self._session, dealer, seat, held.channel, sealed)
            if opened is not None:
                salted[dealer] = opened
        honoured = {
            dealer: data for dealer, data in salted.items()
            if commit_share(self._session, dealer, seat, data) == headers[dealer].commitments[place]
        }  # fmt: skip
        shares = {dealer: open_share(given, dealer, seat, data[SALT_BYTES:]) for dealer, data in honoured.items()}
        sound = {dealer: share for dealer, share in shares.items() if share is not None}
        combined = dict(zip(sound, combinations(list(sound.values()), coefficients), strict=True))
        out: dict[Seat, Held | None] = dict.fromkeys(headers)
        out.update({d: Held(honoured[d], share, combined.get(d, [])) for d, share in shares.items()})
        return out

    def _holds(self, given: Deal) -> bool:
        return self._seat in given.holders

    def _require_enough(self, what: str, count: int) -> None:
        if count < self._session.threshold:
            raise ProtocolError(f"{what} of {count} sites, expected at least {self._session.threshold}")
