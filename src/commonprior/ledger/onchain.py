"""What a chain itself holds of a run: the records in its transactions, with the ballots that were counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from commonprior.ballot import NOTHING
from commonprior.canonical import digest
from commonprior.errors import JournalError
from commonprior.ledger import Chain
from commonprior.ledger.client import Contracts, taken_of
from commonprior.ledger.contract import artefact
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.rpc import Rpc


class Entered(NamedTuple):
    """A record as it was entered: its bytes, the prior, the ballots (in order of their accounts), and the hash of the
    block before the one that it is in (of an embedded chain; else empty). Of public deltas also what the ballots
    name, the scores, a row a ballot, the contributors' accounts, and who of them is averaged (bit i).
    """

    entry: bytes
    prior: bytes
    ballots: Sequence[bytes]
    after: bytes
    subject: bytes = NOTHING
    scores: Sequence[bytes] = ()
    contributors: tuple[bytes, ...] = ()
    taken: int = 0


def entered(contracts: Contracts, run: bytes) -> list[Entered]:
    """Return every record of a run that the chain holds, its opening first."""
    out = []
    for data, after in _calls(contracts.chain, contracts, run):
        name, values = artefact("Rounds").call_of(data)
        if name == "begin":
            _, _, prior, entry, _, _, ballots = values
            found = Entered(entry, prior, ballots, after)
        elif name == "record" and values[0] == run:
            _, _, prior, entry, ballots = values
            found = Entered(entry, prior, ballots, after)
        elif name == "finalise" and values[0] == run:
            _, prior, entry, _, who, _, _, _, taken, _, ballots, scores = values
            names = tuple(bytes.fromhex(w[2:]) for w in who)
            found = Entered(entry, prior, ballots, after, taken_of(names, taken), scores, names, taken)
        else:
            continue
        if name != "begin" or digest(found.entry) == run:
            out.append(found)
    return out


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
