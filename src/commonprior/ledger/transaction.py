"""Signed transactions (EIP-1559, type 2): the bytes that every chain takes and an embedded one's journal keeps."""

from __future__ import annotations

from dataclasses import dataclass

import rlp
from eth_hash.auto import keccak

from commonprior.errors import MalformedMessage
from commonprior.identity import Identity, signer_of

_TYPE = b"\x02"


@dataclass(frozen=True)
class Transaction:
    """What is sent. `to` is None where `data` is the code of a new contract; fees are in wei for a unit of gas."""

    chain: int
    nonce: int
    tip: int
    fee: int
    gas: int
    to: bytes | None
    data: bytes

    def _fields(self) -> list[object]:
        return [_int(self.chain), _int(self.nonce), _int(self.tip), _int(self.fee), _int(self.gas), self.to or b"",
                b"", self.data, []]  # fmt: skip

    def sign(self, sender: Identity) -> bytes:
        """Return the signed bytes."""
        signature = sender.sign_digest(keccak(_TYPE + _encode(self._fields())))
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
        return _TYPE + _encode([*self._fields(), _int(signature[64] - 27), _int(r), _int(s)])


def read_transaction(data: bytes) -> tuple[Transaction, bytes]:
    """Return the transaction and the account (20 bytes) that signed it, or raise `MalformedMessage`.

    Only the bytes that `Transaction.sign` makes are taken: no value, no access list.
    """
    try:
        fields = rlp.decode(data[1:], strict=True)
    except Exception as error:  # a dozen types of its own; to us they are all one refusal
        raise MalformedMessage(f"{len(data)} bytes are no transaction: {type(error).__name__}") from None
    match fields:
        case [bytes() as chain, bytes() as nonce, bytes() as tip, bytes() as fee, bytes() as gas, bytes() as to, b"",
              bytes() as body, [], bytes() as parity, bytes() as r, bytes() as s] if data[:1] == _TYPE:  # fmt: skip
            number, count, most_tip, most_fee, limit = (_read(part) for part in (chain, nonce, tip, fee, gas))
        case _:
            raise MalformedMessage("expected a transaction of type 2 without value or access list")
    if len(to) not in (0, 20) or max(len(r), len(s)) > 32 or parity not in (b"", b"\x01"):
        raise MalformedMessage("expected an address of 20 bytes and a signature of 65")
    transaction = Transaction(number, count, most_tip, most_fee, limit, to or None, body)
    digest = keccak(_TYPE + _encode(transaction._fields()))
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes([27 + len(parity)])
    sender = signer_of(digest, signature)
    if sender is None:
        raise MalformedMessage("the transaction's signature is nobody's")
    signed = rlp.encode([*transaction._fields(), parity, _int(_read(r)), _int(_read(s))])
    if _TYPE + signed != data:
        raise MalformedMessage("a transaction in other bytes than its own")
    return transaction, sender


def address_made(creator: bytes, nonce: int) -> bytes:
    """Return the address of the contract that an account's transaction of this nonce makes."""
    return keccak(_encode([creator, _int(nonce)]))[12:]


def _encode(fields: list[object]) -> bytes:
    return bytes(rlp.encode(fields))  # pyright: ignore[reportArgumentType]


def _read(part: bytes) -> int:
    return int.from_bytes(part, "big")


def _int(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
