"""The consistency round (Bonawitz et al. 2017, figure 4, round 3): agree on whose sealed bytes are summed, and which.

Each site signs one statement an attempt over (session, survivors, commitments); nothing opens before `threshold` of
them signed the same one. As 2 · threshold > n + colluders, no two different statements can both get there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commonprior.canonical import Value
from commonprior.errors import ProtocolError
from commonprior.identity import Identity, verify
from commonprior.session import Seat, Session, consistency_statement
from commonprior.sums import Guard
from commonprior.sums._messages import read_survivors


def require_committed(commitments: Mapping[Seat, bytes], sealed: Sequence[bytes]) -> dict[Seat, bytes]:
    """Return the survivors' sealed bytes by seat; raise `ProtocolError` for other bytes than they committed to."""
    if len(sealed) != len(commitments):
        raise ProtocolError(f"sealed bytes of {len(sealed)} sites, expected {len(commitments)}")
    for (seat, commitment), given in zip(commitments.items(), sealed, strict=True):
        if commit(given) != commitment:
            raise ProtocolError(f"the sealed bytes of seat {seat} are not those that it committed to")
    return dict(zip(commitments, sealed, strict=True))


class Agreement(NamedTuple):
    """What a site has signed: `survivors`, ascending, and the statement over them and their commitments."""

    survivors: tuple[Seat, ...]
    statement: bytes


def commit(sealed: bytes) -> bytes:
    """Return the commitment to a site's sealed bytes: their SHA-256."""
    return hashlib.sha256(sealed).digest()


def propose(session: Session, commitments: Mapping[Seat, bytes]) -> tuple[Agreement, Value]:
    """Return the agreement that the coordinator wants, and the request that shows it: survivors with commitments."""
    survivors, given = tuple(sorted(commitments)), [commitments[seat] for seat in sorted(commitments)]
    agreement = Agreement(survivors, consistency_statement(session, survivors, given))
    return agreement, {"survivors": list(survivors), "commitments": given}


def agree(session: Session, seat: Seat, peers: frozenset[Seat], own: bytes, body: Value, guard: Guard) -> Agreement:
    """Check the coordinator's survivors as the site on `seat`, whose commitment is `own`; return what it may sign.

    Raises `ProtocolError` where a survivor is not among `peers`, there are fewer than the threshold, or this site
    is left out or misquoted; whatever `guard` raises.
    """
    survivors, commitments = read_survivors(body, len(session.roster))
    strangers = sorted(set(survivors) - peers)
    if strangers:
        raise ProtocolError(f"survivors {strangers} were not taking part; expected some of {sorted(peers)}")
    if len(survivors) < session.threshold:
        raise ProtocolError(f"{len(survivors)} survivors, expected at least {session.threshold}")
    if seat not in survivors:
        raise ProtocolError(f"seat {seat} sent its input and is not among the survivors {list(survivors)}")
    if commitments[survivors.index(seat)] != own:
        raise ProtocolError(f"the commitment given for seat {seat} is not to the bytes that it sent")
    guard(frozenset(survivors))
    return Agreement(survivors, consistency_statement(session, survivors, commitments))


def sign(identity: Identity, agreement: Agreement) -> Value:
    """Return the answer that carries a site's signature over its statement."""
    return {"signature": identity.sign(agreement.statement)}


def require_signature(session: Session, seat: Seat, statement: bytes, signature: bytes) -> None:
    """Raise `ProtocolError` unless `signature` is the seat's over `statement`."""
    if not verify(session.key_of(seat), signature, statement):
        raise ProtocolError(f"seat {seat} did not sign the statement that this attempt is about")


def require_agreement(session: Session, agreement: Agreement, signatures: Mapping[Seat, bytes]) -> None:
    """Raise `ProtocolError` unless at least the threshold of the survivors signed this very agreement."""
    strangers = sorted(set(signatures) - set(agreement.survivors))
    if strangers:
        raise ProtocolError(f"signatures of seats {strangers}, who are not among the survivors")
    if len(signatures) < session.threshold:
        raise ProtocolError(f"{len(signatures)} signatures, expected at least {session.threshold}")
    for seat, signature in signatures.items():
        require_signature(session, seat, agreement.statement, signature)
