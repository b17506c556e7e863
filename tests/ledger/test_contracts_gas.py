"""What a transaction costs, to the unit: a node's receipts of transactions that are the same in every run.

tests/vectors/ledger_gas.json holds them. Where a contract is changed on purpose, `python -m
tests.ledger.test_contracts_gas` writes the file anew, and the difference is looked at.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.ledger import merkle
from commonprior.ledger.public import Update, mean_of, packed
from commonprior.ledger.rpc import Rpc

from ._consortium import (
    ANVIL_CHAIN,
    HIDDEN_TERMS,
    LARGE_TERMS,
    SMALL_TERMS,
    anvil,
    consortium,
    needs_anvil,
    word,
)

FILE = Path(__file__).parents[1] / "vectors" / "ledger_gas.json"
TARGETS = {"round of 5 x 1,000": 900_000, "challenge of 5 x 262,144": 220_000, "commit": 80_000}


def updates_of(members, numbers):
    """Updates of as many numbers, as a clipped Gaussian makes them."""
    rng = np.random.default_rng(numbers)
    rows = (np.clip(np.rint(rng.normal(0, 20, numbers)), -127, 127).astype(np.int8) for _ in members)
    return [Update(m.address, packed(row), word(f"salt {i}")) for i, (m, row) in enumerate(zip(members, rows))]


def small_round(made):
    """The second round of five contributors with 1,000 numbers: what is written for the first time only is written."""
    spent = {}
    for _ in range(2):
        updates = updates_of(made.members, 1000)
        opened = made.write(made.members[0], "Rounds", "open", made.run).gas
        attempt = made.rounds.attempt()
        commits = [made.rounds.commit(m, attempt, u).gas for m, u in zip(made.members, updates)]
        made.wait(600)
        receipts, *_ = made.finish(attempt, updates)
        assert made.mean(receipts[-1]) == mean_of([u.delta for u in updates])
        spent = {"open": opened, "commit": commits[-1], "finalise of 5 x 1,000": receipts[-1].gas,
                 "round of 5 x 1,000": opened + sum(commits) + receipts[-1].gas}  # fmt: skip
    return spent


def large_challenge(made):
    updates = updates_of(made.members, 262_144)
    attempt = made.committed(updates)
    made.wait(600)
    mean = bytearray(mean_of([u.delta for u in updates]))
    mean[300] ^= 1
    receipts, *_ = made.finish(attempt, updates, sender=made.members[1], mean_root=merkle.root(bytes(mean)))
    announced = made.rounds.announce(made.members[2], 1, word("challenge")).gas
    made.mine()
    challenged = made.rounds.challenge(made.members[2], 1, word("challenge"), updates, bytes(mean)).gas
    return {"propose of 5 x 262,144": receipts[-1].gas, "announce": announced, "challenge of 5 x 262,144": challenged}


def hidden_record(made):
    """The second record of 1,800 bytes with five ballots."""
    spent, base = 0, word("prior 0")
    for number in (1, 2):
        entry, prior = bytes(range(256)) * 7 + bytes(8), word(f"hidden {number}")
        ballot = Ballot(made.run, number, 0, base, prior, digest(entry))
        spent = made.contracts.record(made.members[0], made.run, 0, prior, entry, made.sign(ballot)).gas
        base = prior
    return {"begin": made.receipts["begin"].gas, "record of 1,800 bytes, 5 ballots": spent}


def receipts_of(url):
    """Every figure, on one node."""
    chain = Rpc(url, ANVIL_CHAIN)
    made = consortium(5, SMALL_TERMS._replace(words=32), chain)
    deployed = sum(int(chain._ask("eth_getBlockByNumber", hex(n), False)["gasUsed"], 16) for n in range(1, 7))
    spent = {"deploy six contracts for 5 members": deployed} | small_round(made)
    made.begin(LARGE_TERMS._replace(words=8192), name="large")
    spent |= large_challenge(made)
    made.begin(HIDDEN_TERMS, name="hidden")
    return spent | hidden_record(made)


@pytest.fixture(scope="module")
def receipts():
    with anvil("--base-fee", "0") as url:
        return receipts_of(url)


@needs_anvil
def test_receipts_are_those_of_the_vector(receipts):
    assert receipts == json.loads(FILE.read_text())


@needs_anvil
@pytest.mark.parametrize("case", TARGETS)
def test_receipts_are_below_what_a_round_may_cost(receipts, case):
    assert receipts[case] <= TARGETS[case]


if __name__ == "__main__":
    with anvil("--base-fee", "0") as address:
        FILE.write_text(json.dumps(receipts_of(address), indent=1) + "\n")
