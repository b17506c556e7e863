"""An EVM in this process, whose blocks are a file: an append-only journal of signed transactions.

Each transaction is a block. The file keeps its signed bytes, its time and the hash that chains it to the block before,
over its receipt and, now and then, over the whole storage. Opening the file replays it, so a process that is killed
loses nothing that it was told is done. Whoever owns the file could write another one: this chain shows that history was
changed only to those who know one of its hashes, and its deadlines are what its owner's clock says.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyrevm

from commonprior.appendlog import AppendLog
from commonprior.canonical import decode, digest
from commonprior.errors import JournalError, LedgerError, MalformedMessage, RunError
from commonprior.identity import Identity
from commonprior.ledger import Block, Log, Receipt
from commonprior.ledger.contract import reason_of
from commonprior.ledger.transaction import Transaction, address_made, read_transaction

CHAIN = 0x63707269
"""The chain id of every embedded chain: "cpri"."""

GAS = 16_777_216
"""The most that a transaction may use (EIP-7825)."""

STORAGE_EVERY = 256
"""After so many blocks, a block's hash covers the whole storage too."""

_FIRST = Block(0, bytes(32), 0)
_SLOT = re.compile(r"(\d+): StorageSlot \{ previous_or_original_value: \d+, present_value: (\d+) \}")
_ACCOUNT = re.compile(r"0x([0-9a-f]{40}): Account \{")
_OUTPUT = re.compile(r"output: 0x([0-9a-f]*)")


class Written(NamedTuple):
    """A block as the file keeps it."""

    raw: bytes
    time: int
    hash: bytes


class Embedded:
    """The chain in a file, or in memory alone where there is none. `hashes` are those of its blocks, from block 0."""

    number = CHAIN

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._path = clock, path
        self._head, self._not_before = _FIRST, 0
        self._nonces: dict[bytes, int] = {}
        self.receipts: list[Receipt] = []
        self.transactions: list[Transaction] = []
        self.hashes: list[bytes] = [_FIRST.hash]
        self._log = None if path is None else AppendLog(path)
        self._evm = pyrevm.EVM(spec_id="CANCUN", env=pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=CHAIN)))
        for record in self._log or ():
            self._replay(record)

    def head(self) -> Block:
        """Return the newest block."""
        return self._head

    def wait(self, until: int) -> None:
        """Let the next block be of this time or later: this chain's clock is its owner's, and proves nothing."""
        self._not_before = max(self._not_before, until)

    def nonce(self, account: bytes) -> int:
        """Return how many transactions an account has sent."""
        return self._nonces.get(account, 0)

    def send(self, sender: Identity, to: bytes | None, data: bytes) -> Receipt:
        """Sign a transaction, run it, and wait until the disk has it. What the contract refuses leaves no trace."""
        raw = Transaction(CHAIN, self.nonce(sender.address), 0, 0, GAS, to, data).sign(sender)
        return self.send_raw(raw)

    def send_raw(self, raw: bytes) -> Receipt:
        """Run a signed transaction, and wait until the disk has it."""
        transaction, sender = self._checked(raw)
        block = Block(self._head.number + 1, b"", max(self._head.time + 1, int(self._clock()), self._not_before))
        before = self._evm.snapshot()  # each must be closed again: the interpreter takes them for calls, 1,024 deep
        try:
            output, ok = self._run(transaction, sender, block)
            if not ok:
                raise LedgerError(reason_of(output))
            receipt = self._receipt(raw, block, output)
            block = block._replace(hash=self._hash(raw, block, receipt))
            if self._log is not None:
                self._log.append({"transaction": raw, "time": block.time, "hash": block.hash})
        except (LedgerError, RunError):
            self._evm.revert(before)
            raise
        self._evm.commit()
        self._take(transaction, sender, block, receipt)
        return receipt

    def call(self, to: bytes, data: bytes) -> bytes:
        """Return what a contract answers, without changing anything."""
        block = self._head
        self._set(block)
        try:
            return self._evm.message_call("0x" + "00" * 20, "0x" + to.hex(), data, gas=10 * GAS, is_static=True)
        except RuntimeError as error:
            raise LedgerError(reason_of(_output(error))) from None

    def code(self, address: bytes) -> bytes:
        """Return the code at an address; empty where there is no contract."""
        # The interpreter hands code out with the padding that it analyses it with.
        return self._evm.get_code("0x" + address.hex()) or b""

    def storage(self) -> dict[tuple[bytes, int], int]:
        """Return every number that is kept: {(contract, slot): value}, without zeros."""
        out: dict[tuple[bytes, int], int] = {}
        text = self._evm.journal_str
        text = text[: text.rindex("transient_storage: {")]
        places = [*_ACCOUNT.finditer(text)]
        for place, following in zip(places, [*places[1:], None], strict=True):
            part = text[place.end() : following.start() if following else len(text)]
            for slot, value in _SLOT.findall(part):
                if value != "0":
                    out[bytes.fromhex(place[1]), int(slot)] = int(value)
        return out

    def storage_root(self) -> bytes:
        """Return SHA-256 over the whole storage, sorted by contract and slot."""
        hasher = hashlib.sha256()
        for (address, slot), value in sorted(self.storage().items()):
            hasher.update(address + slot.to_bytes(32, "big") + value.to_bytes(32, "big"))
        return hasher.digest()

    def _replay(self, record: bytes) -> None:
        number = self._head.number + 1
        where = f"{self._path}: block {number}"
        try:
            written = read_block(record)
            transaction, sender = self._checked(written.raw)
        except (LedgerError, MalformedMessage) as error:
            raise JournalError(f"{where} does not hold: {error}") from None
        if written.time <= self._head.time:
            raise JournalError(f"{where} is not later than the one before it")
        block = Block(number, written.hash, written.time)
        output, ok = self._run(transaction, sender, block)
        if not ok:
            raise JournalError(f"{where} does not hold: its contract refuses it: {reason_of(output)}")
        receipt = self._receipt(written.raw, block, output)
        if self._hash(written.raw, block, receipt) != written.hash:
            raise JournalError(f"{where} does not have the hash that the file names")
        self._take(transaction, sender, block, receipt)

    def _checked(self, raw: bytes) -> tuple[Transaction, bytes]:
        transaction, sender = read_transaction(raw)
        if transaction.chain != CHAIN:
            raise LedgerError(f"a transaction for chain {transaction.chain}, this is chain {CHAIN}")
        if transaction.nonce != self.nonce(sender):
            raise LedgerError(f"nonce {transaction.nonce} of {sender.hex()}, expected {self.nonce(sender)}")
        if transaction.gas > GAS:
            raise LedgerError(f"a gas limit of {transaction.gas}, at most {GAS}")
        return transaction, sender

    def _run(self, transaction: Transaction, sender: bytes, block: Block) -> tuple[bytes, bool]:
        """Return what a transaction gives back, and whether it was taken."""
        self._set(block)
        account = "0x" + sender.hex()
        try:
            if transaction.to is None:
                self._set_nonce(account, transaction.nonce)
                made = self._evm.deploy(account, transaction.data, gas=transaction.gas)
                if bytes.fromhex(made.removeprefix("0x")) != address_made(sender, transaction.nonce):
                    raise LedgerError(f"a contract was made at {made}, which its maker's nonce does not lead to")
                return address_made(sender, transaction.nonce), True
            to = "0x" + transaction.to.hex()
            return self._evm.message_call(account, to, transaction.data, gas=transaction.gas), True
        except RuntimeError as error:
            return _output(error), False

    def _set_nonce(self, account: str, nonce: int) -> None:
        # A call does not count up the caller's nonce in this interpreter; a contract's address is made of it.
        if self._evm.basic(account).nonce != nonce:
            self._evm.insert_account_info(account, pyrevm.AccountInfo(nonce=nonce))

    def _set(self, block: Block) -> None:
        self._evm.set_block_env(pyrevm.BlockEnv(number=block.number, timestamp=block.time, gas_limit=10 * GAS))
        self._evm.reset_transient_storage()

    def _receipt(self, raw: bytes, block: Block, output: bytes) -> Receipt:
        result = self._evm.result
        if result is None:
            raise LedgerError("the interpreter has no result")
        logs = tuple(
            Log(bytes.fromhex(log.address[2:]), tuple(bytes.fromhex(t[2:]) for t in log.topics), bytes(log.data[1]))
            for log in result.logs
        )
        return Receipt(digest(raw), block.number, True, result.gas_used, logs, output)

    def _hash(self, raw: bytes, block: Block, receipt: Receipt) -> bytes:
        logs = [[log.address, list(log.topics), log.data] for log in receipt.logs]
        storage = self.storage_root() if block.number % STORAGE_EVERY == 0 else b""
        return digest(["commonprior/block/1", self._head.hash, block.number, block.time, raw, receipt.output, logs,
                       storage])  # fmt: skip

    def _take(self, transaction: Transaction, sender: bytes, block: Block, receipt: Receipt) -> None:
        self._nonces[sender] = transaction.nonce + 1
        self.receipts.append(receipt)
        self.transactions.append(transaction)
        self.hashes.append(block.hash)
        self._head = block


def read_block(record: bytes) -> Written:
    """Return a block of the file, or raise `MalformedMessage`."""
    match decode(record):
        case {"transaction": bytes() as raw, "time": int() as at, "hash": bytes() as hash_, **rest} if not rest:
            return Written(raw, at, hash_)
        case _:
            raise MalformedMessage("expected a block: a transaction, a time and a hash")


def _output(error: RuntimeError) -> bytes:
    found = _OUTPUT.search(str(error))
    return bytes.fromhex(found[1]) if found else b""
