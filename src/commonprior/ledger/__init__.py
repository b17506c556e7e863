"""The record: what every round leaves behind for an outsider to check, and the chains that it is kept on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from commonprior.identity import Identity


class Log(NamedTuple):
    """What a contract said: its address (20 bytes), the topics (32 bytes each) and the data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class Receipt(NamedTuple):
    """A transaction that is in a block. `gas` is what it used; `output` what it returned, or why it was refused."""

    hash: bytes
    block: int
    ok: bool
    gas: int
    logs: tuple[Log, ...]
    output: bytes = b""


class Block(NamedTuple):
    """Where a chain stands: its newest block's number, hash and time in seconds."""

    number: int
    hash: bytes
    time: int


class Chain(Protocol):
    """An EVM. `number` is its chain id, which is in every signature."""

    @property
    def number(self) -> int:
        """Return the chain id."""
        ...

    def send(self, sender: Identity, to: bytes | None, data: bytes) -> Receipt:
        """Sign, send and wait for a transaction; with `to` None make the contract whose code `data` is.

        A transaction that the contract refuses raises `LedgerError` with its reason, and changes nothing.
        """
        ...

    def call(self, to: bytes, data: bytes) -> bytes:
        """Return what a contract answers, without changing anything; raise `LedgerError` with its reason."""
        ...

    def code(self, address: bytes) -> bytes:
        """Return the code at an address; empty where there is no contract."""
        ...

    def head(self) -> Block:
        """Return the newest block."""
        ...

    def wait(self, until: int) -> None:
        """Wait until the next block's time is `until` or later."""
        ...

    def nonce(self, account: bytes) -> int:
        """Return how many transactions an account has sent."""
        ...
