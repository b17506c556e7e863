"""The envelope of every message: who says what to whom in which attempt, signed by the sender's identity."""

from __future__ import annotations

from typing import NamedTuple

from commonprior.canonical import Value, decode, digest, encode
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.identity import Identity, verify
from commonprior.session import COORDINATOR, Seat, Session

_STATEMENT = encode(["commonprior/frame/1", bytes(32)])[:-32]
"""What stands before a content's hash in the bytes that are signed: a session makes thousands of them."""


class Frame(NamedTuple):
    """An opened envelope whose signature, session and addressee held."""

    phase: str
    sender: Seat
    body: Value
    statement: bytes
    signature: bytes


def seal(identity: Identity, session: Session, phase: str, sender: Seat, to: Seat, body: Value) -> bytes:
    """Return a signed frame from `sender` to `to`."""
    content = encode([session.hash, phase, sender, to, body])
    return encode([content, identity.sign(_statement(content))])


def open_frame(data: bytes, session: Session, to: Seat, limit: int = 1 << 30) -> Frame:
    """Return the frame, or raise `ProtocolError` if it is malformed, misdirected, of another session or unsigned."""
    match decode(data, limit):
        case [bytes() as content, bytes() as signature]:
            pass
        case _:
            raise MalformedMessage("expected a frame: [content, signature]")
    match decode(content, limit):
        case [bytes() as hash_, str() as phase, int() as sender, int() as addressee, body]:
            if isinstance(sender, bool) or isinstance(addressee, bool):
                raise MalformedMessage("expected seats as numbers, got a truth value")
        case _:
            raise MalformedMessage("expected frame content: [session, phase, from, to, body]")
    if hash_ != session.hash:
        raise ProtocolError(f"{phase} frame of session {hash_.hex()[:16]}…, expected {session.hash.hex()[:16]}…")
    if addressee != to:
        raise ProtocolError(f"{phase} frame is for seat {addressee}, not for seat {to}")
    if not COORDINATOR <= sender < len(session.roster):
        raise ProtocolError(f"{phase} frame from seat {sender}, which is not in a roster of {len(session.roster)}")
    statement = _statement(content)
    if not verify(session.key_of(sender), signature, statement):
        raise ProtocolError(f"{phase} frame: seat {sender} did not sign it")
    return Frame(phase, sender, body, statement, signature)


def _statement(content: bytes) -> bytes:
    return digest(_STATEMENT + digest(content))
