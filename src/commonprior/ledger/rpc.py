"""Any EVM node by JSON-RPC: geth, Besu, anvil, a public network.

The node's address is no part of a recipe: it may hold a password, and every member asks a node of its own. Sending is
safe to repeat: the hash is known before the bytes leave, one nonce is given out at a time, and "already known" or
"nonce too low" mean that the receipt is to be looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from eth_hash.auto import keccak

from commonprior.errors import InputError, LedgerError
from commonprior.identity import Identity
from commonprior.ledger import Block, Log, Receipt
from commonprior.ledger.contract import reason_of
from commonprior.ledger.transaction import Transaction

MOST_GAS = 16_777_216
"""The most that a transaction may use (EIP-7825)."""

_SEEN = ("already known", "nonce too low", "already imported", "known transaction")
_REVERTED = 3
"""The error code with which nodes answer for a contract that refuses."""


class Rpc:
    """A chain behind a node. `number`: the chain id that is expected; `confirmations`: how many blocks a transaction is
    waited for, its own included; `patience`: for how many seconds.
    """

    def __init__(
        self, url: str, number: int, confirmations: int = 1, patience: float = 120.0,
        sent: Callable[[bytes], None] = lambda hash_: None,
    ) -> None:  # fmt: skip
        self._number, self._confirmations, self._patience, self._sent = number, confirmations, patience, sent
        self._where = url.split("@")[-1].split("?")[0]  # without what may be a secret
        self._request = _transport(url, min(patience, 30.0))
        answered = int(self._ask("eth_chainId"), 16)
        if answered != number:
            raise LedgerError(f"{self._where}: is on chain {answered}, expected {number}: name a node of that chain")

    @property
    def number(self) -> int:
        """Return the chain id."""
        return self._number

    def head(self) -> Block:
        """Return the newest block."""
        block = self._ask("eth_getBlockByNumber", "latest", False)
        return Block(int(block["number"], 16), _bytes(block["hash"]), int(block["timestamp"], 16))

    def wait(self, until: int) -> None:
        """Sleep until this machine's clock says so; a chain whose blocks are later already is not waited for."""
        while max(time.time(), self.head().time) < until:
            time.sleep(min(1.0, max(0.05, until - time.time())))

    def nonce(self, account: bytes) -> int:
        """Return how many transactions an account has sent, those that wait for a block included."""
        return int(self._ask("eth_getTransactionCount", _hex(account), "pending"), 16)

    def code(self, address: bytes) -> bytes:
        """Return the code at an address; empty where there is no contract."""
        return _bytes(self._ask("eth_getCode", _hex(address), "latest"))

    def call(self, to: bytes, data: bytes) -> bytes:
        """Return what a contract answers, without changing anything."""
        return _bytes(self._ask("eth_call", {"to": _hex(to), "data": _hex(data)}, "latest"))

    def send(self, sender: Identity, to: bytes | None, data: bytes) -> Receipt:
        """Sign and send a transaction, and wait for its receipt and the blocks on top of it."""
        asked = {"from": _hex(sender.address), "data": _hex(data)} | ({} if to is None else {"to": _hex(to)})
        gas = int(self._ask("eth_estimateGas", asked), 16)
        if gas > MOST_GAS:
            raise LedgerError(f"the transaction needs {gas} gas, at most {MOST_GAS}: send it in pages")
        base = int(self._ask("eth_getBlockByNumber", "latest", False).get("baseFeePerGas", "0x0"), 16)
        tip = 0 if base == 0 else 10**9
        nonce = self.nonce(sender.address)  # the node's: what was sent before may have been reorganised away
        limit = min(gas + gas // 4, MOST_GAS)
        return self.send_raw(Transaction(self._number, nonce, tip, 2 * base + tip, limit, to, data).sign(sender))

    def send_raw(self, raw: bytes) -> Receipt:
        """Send a signed transaction, or look up what became of it."""
        hash_ = keccak(raw)
        self._sent(hash_)
        try:
            self._ask("eth_sendRawTransaction", _hex(raw))
        except LedgerError as error:
            if "insufficient funds" in str(error).lower():
                raise LedgerError(
                    f"{self._where}: the account has too little to pay for transaction {_hex(hash_)}: "
                    f"send it some of the chain's coin, and run the same command again"
                ) from None
            if not any(words in str(error).lower() for words in _SEEN):
                raise
        return self._wait(hash_)

    def logs(self, addresses: list[bytes], topics: list[bytes | None], first: int = 0) -> list[tuple[bytes, int, Log]]:
        """Return (transaction hash, block, log) of the contracts' logs from a block on, oldest first."""
        asked = {"fromBlock": hex(first), "toBlock": "latest", "address": [_hex(a) for a in addresses],
                 "topics": [None if t is None else _hex(t) for t in topics]}  # fmt: skip
        return [
            (_bytes(log["transactionHash"]), int(log["blockNumber"], 16), _log(log))
            for log in self._ask("eth_getLogs", asked)
        ]

    def data_of(self, hash_: bytes) -> tuple[bytes, bytes]:
        """Return to which contract a transaction went (20 bytes) and its data."""
        found = self._ask("eth_getTransactionByHash", _hex(hash_))
        return _bytes(found["to"] or "0x"), _bytes(found["input"])

    def _wait(self, hash_: bytes) -> Receipt:
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            found = self._ask("eth_getTransactionReceipt", _hex(hash_))
            if found is not None:
                block = int(found["blockNumber"], 16)
                if int(found["status"], 16) == 0:
                    raise LedgerError(f"{self._where}: transaction {_hex(hash_)} was refused in block {block}")
                if self.head().number >= block + self._confirmations - 1:
                    logs = tuple(_log(log) for log in found["logs"])
                    return Receipt(hash_, block, True, int(found["gasUsed"], 16), logs)
            time.sleep(0.02)
        raise LedgerError(
            f"{self._where}: transaction {_hex(hash_)} is in no block after {self._patience:g} seconds; run the same "
            f"command again: it is looked up first, and never counted twice"
        )

    def _ask(self, method: str, *values: Any) -> Any:
        try:
            answer = self._request(method, list(values))
        except Exception as error:  # the transport's own dozen types
            raise LedgerError(
                f"{self._where}: the node does not answer ({type(error).__name__} at {method}); start it, or name "
                f"another one, and run the same command again"
            ) from None
        failed = answer.get("error")
        if failed is None:
            return answer["result"]
        data = failed.get("data")
        if failed.get("code") == _REVERTED or isinstance(data, str):
            raise LedgerError(reason_of(_bytes(data)) if isinstance(data, str) else str(failed.get("message")))
        raise LedgerError(f"{self._where}: {method}: {failed.get('message')}")


def _transport(url: str, patience: float) -> Callable[[str, list[Any]], Any]:
    try:
        from web3 import HTTPProvider
    except ImportError:
        raise InputError("a ledger of kind rpc needs web3: install commonprior[rpc]") from None
    provider = HTTPProvider(url, request_kwargs={"timeout": patience})
    return lambda method, values: provider.make_request(method, values)  # pyright: ignore[reportArgumentType]


def _log(log: dict[str, Any]) -> Log:
    return Log(_bytes(log["address"]), tuple(_bytes(t) for t in log["topics"]), _bytes(log["data"]))


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
