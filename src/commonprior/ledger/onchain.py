"""What a chain itself holds of a run: the records in its transactions, with the ballots that were counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from commonprior.ballot import NOTHING
from commonprior.canonical import digest
from commonprior.errors import JournalError, LedgerError
from commonprior.ledger import Chain
from commonprior.ledger.client import Contracts, names_of, taken_of
from commonprior.ledger.contract import Event, artefact
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.public import mean_of
from commonprior.ledger.rpc import Rpc


class Entered(NamedTuple):
    """A record as it was entered: its bytes, the prior, the ballots (in order of their accounts), and the hash of the
    block before the one that it is in (of an embedded chain; else empty). Of public deltas also what the ballots
    name, the scores, a row a ballot, the contributors' accounts, who of them is averaged (bit i), and what they sent;
    nothing of that where it came in pages, of which a node has no list.
    """

    entry: bytes
    prior: bytes
    ballots: Sequence[bytes]
    after: bytes
    subject: bytes = NOTHING
    scores: Sequence[bytes] = ()
    contributors: tuple[bytes, ...] = ()
    taken: int = 0
    deltas: tuple[bytes, ...] = ()


def entered(contracts: Contracts, run: bytes) -> list[Entered]:
    """Return every record of a run that the chain holds, its opening first."""
    out, pages = [], dict[bytes, tuple[bytes, ...]]()  # by the hash of the names so far
    for data, after in _calls(contracts.chain, contracts, run):
        name, values = artefact("Rounds").call_of(data)
        if name == "begin":
            _, _, prior, entry, _, _, ballots = values
            found = Entered(entry, prior, ballots, after)
        elif name == "record" and values[0] == run:
            _, _, prior, entry, ballots = values
            found = Entered(entry, prior, ballots, after)
        elif name == "finalise" and values[0] == run:
            _, prior, entry, so_far, who, _, _, deltas, taken, _, ballots, scores = values
            whole = (*pages.get(so_far[0], ()), *deltas)
            names = tuple(bytes.fromhex(w[2:]) for w in who)
            sent = whole if len(whole) == len(names) else ()
            found = Entered(entry, prior, ballots, after, taken_of(names, taken), scores, names, taken, sent)
            pages = {}
        elif name == "page" and values[0] == run:
            _, so_far, who, _, deltas, _ = values
            names = names_of([bytes.fromhex(w[2:]) for w in who], so_far[0])
            pages[names] = (*pages.get(so_far[0], ()), *deltas)
            continue
        else:
            continue
        if name != "begin" or digest(found.entry) == run:
            out.append(found)
    return out


def check_means(
    contracts: Contracts, run: bytes, records: Sequence[Entered], published: Mapping[int, bytes] = MappingProxyType({})
) -> None:
    """Raise `JournalError` unless each mean that the contract computed is that of the updates that it was sent, and of
    those that a run folder says were `published`: by round, their int8 bytes.
    """
    means = {event.values["round"]: event.values["mean"] for event, _ in said(contracts, "Rounds", run)
             if event.name == "Finalised"}  # fmt: skip
    for number, record in enumerate(records):
        if number in published and number in means and published[number] != _bytes_of(means[number]):
            raise JournalError(f"round {number}: the contract's mean is not that of the updates in the run's folder")
        if record.deltas:
            kept = [delta for i, delta in enumerate(record.deltas) if record.taken >> i & 1]
            if _bytes_of(means.get(number, ())) != mean_of(kept):
                raise JournalError(f"round {number}: the contract's mean is not that of the updates that it was sent")


def _bytes_of(mean: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(32, "big") for word in mean)


def said(contracts: Contracts, name: str, run: bytes) -> Iterator[tuple[Event, int]]:
    """Yield what one of the contracts said of a run, and in which block, oldest first."""
    chain: Chain = contracts.chain
    address, known = contracts.address(name), artefact(name)
    match chain:
        case Embedded():
            for receipt in chain.receipts:
                for log in receipt.logs:
                    if log.address == address and log.topics[1:2] == (run,):
                        yield known.event(log), receipt.block
        case Rpc():
            for _, block, log in chain.logs([address], [None, run]):
                yield known.event(log), block
        case _:
            raise LedgerError(f"{type(chain).__name__}: a chain whose logs cannot be read")


def _calls(chain: Chain, contracts: Contracts, run: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the data of every transaction to the contract that counts ballots, and the hash of the block before it."""
    rounds = contracts.address("Rounds")
    match chain:
        case Embedded():
            for number, transaction in enumerate(chain.transactions):
                if transaction.to == rounds:
                    yield transaction.data, chain.hashes[number]
        case Rpc():
            for hash_, _, _ in chain.logs([contracts.address("Registry")], [None, run]):
                to, data = chain.data_of(hash_)
                if to != rounds:
                    raise JournalError(f"transaction 0x{hash_.hex()} wrote to the registry by way of another contract")
                yield data, b""
        case _:
            raise JournalError(f"{type(chain).__name__}: a chain whose transactions cannot be read")
