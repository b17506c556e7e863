"""From masked vectors and opened secrets to the sum: what the coordinator does, and whoever checks it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import Value, decode, encode
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.frame import open_frame
from commonprior.session import COORDINATOR, Seat, Session
from commonprior.sums._keys import commit_seed, matches_mask_key
from commonprior.sums._masks import MaskStream, add_streams, pair_stream, self_stream
from commonprior.sums._messages import PublicKeys, read_public_keys


class Secrets(NamedTuple):
    """What was opened: survivors' seeds, dropped sites' private mask keys, and everyone's public mask keys.

    `peers` says with whom a dropped site shares masks, as bits by seat; with everyone, where it says nothing.
    """

    seeds: Mapping[Seat, bytes]
    dropped: Mapping[Seat, bytes]
    mask_keys: Mapping[Seat, bytes]
    peers: Mapping[Seat, bytes] = MappingProxyType({})

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode({name: [[s, items[s]] for s in sorted(items)] for name, items in self._asdict().items()})

    @staticmethod
    def decode(data: bytes) -> Secrets:
        """Return the secrets whose canonical bytes these are, or raise `MalformedMessage`."""
        match decode(data):
            case {
                "seeds": list() as seeds, "dropped": list() as dropped, "mask_keys": list() as keys,
                "peers": list() as peers, **rest,
            } if not rest:  # fmt: skip
                return Secrets(_by_seat(seeds), _by_seat(dropped), _by_seat(keys), _by_seat(peers))
        raise MalformedMessage("expected opened secrets: seeds, dropped, mask_keys, peers")


def unmask_again(
    session: Session, sealed: Mapping[Seat, bytes], opened: bytes, announced: Mapping[Seat, PublicKeys] | None = None
) -> np.ndarray:
    """Return the sum [d] int64 from what was kept of it; raise `ProtocolError` where it does not fit together.

    `announced` are the keys and seed commitments that sites signed in this session, where they were kept: then a seed
    or a key that its site did not announce is refused.
    """
    secrets, size = Secrets.decode(opened), session.length * session.encoding.width
    seats = {*secrets.seeds, *secrets.dropped}
    if seats - set(range(len(session.roster))) or seats != secrets.mask_keys.keys():
        raise ProtocolError("the opened secrets are not of sites of the roster, each with its public key")
    if secrets.dropped.keys() & sealed.keys():
        raise ProtocolError(f"keys of seats {sorted(secrets.dropped.keys() & sealed.keys())} are opened, who survive")
    if any(len(words) != size for words in sealed.values()):
        raise ProtocolError(f"expected masked vectors of {size} bytes")
    if secrets.seeds.keys() != sealed.keys():
        raise ProtocolError(f"seeds of seats {sorted(secrets.seeds)} are opened, expected {sorted(sealed)}")
    try:
        for seat, key in secrets.dropped.items():
            if not matches_mask_key(secrets.mask_keys[seat], key):
                raise ProtocolError(f"the key that is opened for seat {seat} is not the one of its public key")
        if announced is not None:
            _check_announced(session, secrets, announced)
        return session.encoding.from_words(unmask(session, sealed, secrets))
    except (KeyError, ValueError) as error:
        raise ProtocolError(f"the opened keys do not fit together: {error}") from None


def read_announced(session: Session, frames: Sequence[bytes]) -> dict[Seat, PublicKeys]:
    """Return what sites announced, from the frames that they signed in this session."""
    out: dict[Seat, PublicKeys] = {}
    for data in frames:
        frame = open_frame(data, session, COORDINATOR)
        if frame.phase != "keys" or frame.sender in out:
            raise ProtocolError(f"a {frame.phase} frame of seat {frame.sender} in the place of its keys")
        out[frame.sender] = read_public_keys(frame.body)
    return out


def _check_announced(session: Session, secrets: Secrets, announced: Mapping[Seat, PublicKeys]) -> None:
    if announced.keys() != secrets.mask_keys.keys():
        raise ProtocolError(f"announcements of seats {sorted(announced)}, expected {sorted(secrets.mask_keys)}")
    for seat, public in announced.items():
        seed = secrets.seeds.get(seat)
        if secrets.mask_keys[seat] != public.mask or (
            seed is not None and commit_seed(session, seat, seed) != public.commitment
        ):
            raise ProtocolError(f"what is opened of seat {seat} is not what it announced")


def unmask(session: Session, sealed: Mapping[Seat, bytes], secrets: Secrets) -> np.ndarray:
    """Return the sum of the survivors' inputs as words [d], from their `sealed` bytes and what was opened."""
    total = np.zeros(session.length, session.encoding.word)
    for words in sealed.values():
        np.add(total, np.frombuffer(words, total.dtype), out=total)
    streams = [self_stream(session, seat, secrets.seeds[seat]) for seat in sealed]
    for seat, secret in secrets.dropped.items():
        private = X25519PrivateKey.from_private_bytes(secret)
        # What the dropped site would have added is minus what the survivor added: adding it takes the mask away.
        peers = [peer for peer in sealed if seat not in secrets.peers or _holds(secrets.peers[seat], peer)]
        streams += [_undo(pair_stream(session, private, seat, peer, secrets.mask_keys)) for peer in peers]
    add_streams(total, [_undo(stream) for stream in streams])
    return total


def _undo(stream: MaskStream) -> MaskStream:
    return stream._replace(sign=-stream.sign)


def _holds(bits: bytes, seat: Seat) -> bool:
    return bool(int.from_bytes(bits, "little") >> seat & 1)


def _by_seat(items: list[Value]) -> dict[Seat, bytes]:
    out: dict[Seat, bytes] = {}
    for item in items:
        match item:
            case [int() as seat, bytes() as data]:
                out[seat] = data
            case _:
                raise MalformedMessage("expected [seat, bytes]")
    return out
