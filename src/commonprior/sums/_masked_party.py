"""A site's side of the masked sum. Each phase takes one state into the next and lets go of what it no longer needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from commonprior.canonical import Value, encode
from commonprior.errors import InputError, ProtocolError
from commonprior.identity import Identity
from commonprior.session import Seat, Session
from commonprior.sums import Csprng, Finished, Guard
from commonprior.sums._bodies import open_keys, write_by_seat
from commonprior.sums._consistency import Agreement, agree, commit, require_agreement, sign
from commonprior.sums._keys import Secrets, draw, require_sound
from commonprior.sums._masks import add_streams, pair_stream, self_stream, to_words
from commonprior.sums._messages import (
    PublicKeys,
    read_key_frames,
    read_nothing,
    read_packet_frames,
    read_public_keys,
    read_signatures,
)
from commonprior.sums._packets import Shares, commit_share, open_packet, read_packet_frame, seal_packet
from commonprior.sums._phases import PhasedParty, Reply
from commonprior.sums._shamir import split


@dataclass(frozen=True)
class Fresh:
    """Before anything was said."""

    integers: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Keyed:
    """Has announced its public keys."""

    integers: np.ndarray = field(repr=False)
    secrets: Secrets


@dataclass(frozen=True)
class Dealt:
    """Has dealt shares of its secrets to the sites whose keys it checked."""

    integers: np.ndarray = field(repr=False)
    secrets: Secrets
    keys: Mapping[Seat, PublicKeys]
    own: Shares = field(repr=False)


@dataclass(frozen=True)
class Hidden:
    """Has sent its masked input and forgotten its secrets; holds one share of each peer's (None: would not open)."""

    shares: Mapping[Seat, Shares | None] = field(repr=False)
    commitment: bytes


@dataclass(frozen=True)
class Agreed:
    """Has signed whose inputs are summed: once, for good."""

    shares: Mapping[Seat, Shares | None] = field(repr=False)
    agreement: Agreement


@dataclass(frozen=True)
class Released:
    """Has released one share of each peer's secrets, of one kind each; holds nothing any more."""


@final
class MaskedParty(PhasedParty):
    """The machine of one site."""

    def __init__(
        self, session: Session, seat: Seat, identity: Identity, integers: np.ndarray, csprng: Csprng, guard: Guard
    ) -> None:
        if integers.shape != (session.length,) or integers.dtype != np.int64:
            raise InputError(
                f"expected {session.length} integers of int64, got shape {integers.shape} of {integers.dtype}; "
                f"give what the mechanism returned"
            )
        super().__init__(session, seat, identity, Fresh(integers))
        self._csprng = csprng
        self._guard = guard

    def _answer(self, phase: str, state: object, body: Value) -> tuple[object, Reply]:
        match phase, state:
            case "keys", Fresh():
                return self._announce(state, body)
            case "shares", Keyed():
                return self._deal(state, body)
            case "masked", Dealt():
                return self._hide(state, body)
            case "consistency", Hidden():
                return self._agree(state, body)
            case "unmask", Agreed():
                return self._release(state, body)
            case _:
                raise ProtocolError(
                    f"{phase} request to seat {self._seat}, which is {type(state).__name__.lower()}: it answers each "
                    f"phase once, in order, and never takes up an attempt that it did not begin"
                )

    def _announce(self, state: Fresh, body: Value) -> tuple[Keyed, Reply]:
        read_nothing(body, "keys")
        secrets = draw(self._csprng)
        return Keyed(state.integers, secrets), Reply(secrets.public(self._session, self._seat)._asdict())

    def _deal(self, state: Keyed, body: Value) -> tuple[Dealt, Reply]:
        session, seat = self._session, self._seat
        keys = open_keys(read_key_frames(body, len(session.roster)), session, read_public_keys)
        if keys.get(seat) != state.secrets.public(session, seat):
            raise ProtocolError(f"the keys relayed for seat {seat} are not the ones that it announced")
        self._require_enough("keys", len(keys))
        require_sound(keys)
        self._guard(frozenset(keys))
        seeds = split(state.secrets.seed, session.threshold, keys, self._csprng)
        mask_keys = split(state.secrets.mask.private_bytes_raw(), session.threshold, keys, self._csprng)
        packets = {
            peer: seal_packet(self._identity, session, seat, peer, public.channel, Shares(seeds[peer], mask_keys[peer]))
            for peer, public in keys.items()
            if peer != seat
        }
        own = Shares(seeds[seat], mask_keys[seat])
        commitment = commit_share(session, seat, seat, "seed", own.seed)
        return (
            Dealt(state.integers, state.secrets, keys, own),
            Reply({"packets": write_by_seat(packets), "own": commitment}),
        )

    def _hide(self, state: Dealt, body: Value) -> tuple[Hidden, Reply]:
        session, seat = self._session, self._seat
        frames = read_packet_frames(body, len(session.roster))
        strangers = sorted(set(frames) - set(state.keys) | set(frames) & {seat})
        if strangers:
            raise ProtocolError(f"packets of seats {strangers}, expected only peers whose keys were relayed")
        packets = {dealer: read_packet_frame(frame, session, dealer, seat) for dealer, frame in frames.items()}
        peers = sorted({*packets, seat})
        self._require_enough("shares", len(peers))
        self._guard(frozenset(peers))
        channel = state.secrets.channel
        shares = {dealer: open_packet(packet, channel, session, dealer, seat) for dealer, packet in packets.items()}
        mask_keys = {peer: state.keys[peer].mask for peer in peers}
        words = to_words(state.integers, session.encoding)
        streams = [pair_stream(session, state.secrets.mask, seat, peer, mask_keys) for peer in packets]
        add_streams(words, [self_stream(session, seat, state.secrets.seed), *streams])
        sealed = words.tobytes()
        commitment = commit(sealed)
        record = {"sum": "masked", "session": session.hash, "seat": seat, "peers": peers, "commitment": commitment}
        return (
            Hidden({**shares, seat: state.own}, commitment),
            Reply({"peers": peers, "words": sealed}, persist=encode(record)),
        )

    def _agree(self, state: Hidden, body: Value) -> tuple[Agreed, Reply]:
        peers = frozenset(state.shares)
        agreement = agree(self._session, self._seat, peers, state.commitment, body, self._guard)
        return Agreed(state.shares, agreement), Reply(sign(self._identity, agreement))

    def _release(self, state: Agreed, body: Value) -> tuple[Released, Reply]:
        require_agreement(self._session, state.agreement, read_signatures(body, len(self._session.roster)))
        survivors = state.agreement.survivors
        seeds = {seat: shares.seed if shares else b"" for seat, shares in state.shares.items() if seat in survivors}
        keys = {seat: shares.key if shares else b"" for seat, shares in state.shares.items() if seat not in survivors}
        reply = {"seeds": write_by_seat(seeds), "keys": write_by_seat(keys)}
        return Released(), Reply(reply, done=Finished(survivors))

    def _require_enough(self, what: str, count: int) -> None:
        if count < self._session.threshold:
            raise ProtocolError(f"{what} of {count} sites, expected at least {self._session.threshold}")
