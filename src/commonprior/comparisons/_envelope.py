"""The envelope of a two-party message: which step of which batch, signed by its side's identity."""

from __future__ import annotations

from commonprior.canonical import Value, decode, digest, encode
from commonprior.comparisons import Pairing, Side
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.identity import Identity, verify

_DOMAIN = "commonprior/comparison/1"


def seal(identity: Identity, pairing: Pairing, step: str, body: Value) -> bytes:
    """Return a signed message of a step."""
    content = encode([pairing.hash, step, body])
    return encode([content, identity.sign(digest([_DOMAIN, digest(content)]))])


def open_message(data: bytes, pairing: Pairing, sender: Side, step: str, limit: int) -> Value:
    """Return the body of the message that is due, or raise `ProtocolError`."""
    match decode(data, limit):
        case [bytes() as content, bytes() as signature]:
            pass
        case _:
            raise MalformedMessage("expected a message: [content, signature]")
    match decode(content, limit):
        case [bytes() as hash_, str() as name, body]:
            pass
        case _:
            raise MalformedMessage("expected message content: [pairing, step, body]")
    if hash_ != pairing.hash:
        raise ProtocolError(f"a message of pairing {hash_.hex()[:16]}…, expected {pairing.hash.hex()[:16]}…")
    if name != step:
        raise ProtocolError(f"a {name!r} message where {step!r} is due")
    if not verify(pairing.key_of(sender), signature, digest([_DOMAIN, digest(content)])):
        raise ProtocolError(f"a {step!r} message that the {sender} side did not sign")
    return body


def read_fields(body: Value, sizes: dict[str, int]) -> list[bytes]:
    """Return the byte strings of a body that has exactly these fields of exactly these sizes, in `sizes`' order."""
    if not isinstance(body, dict) or set(body) != set(sizes):
        raise MalformedMessage(f"expected fields {', '.join(sizes)}")
    fields: list[bytes] = []
    for name, size in sizes.items():
        data = body[name]
        if not isinstance(data, bytes) or len(data) != size:
            raise MalformedMessage(f"{name}: expected {size} bytes")
        fields.append(data)
    return fields
