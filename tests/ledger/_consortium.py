"""A consortium for tests: members with keys that are the same in every run, on an embedded chain whose clock a test
sets, or on an anvil. It holds rounds from end to end, or as far as a test wants them.
"""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_hash.auto import keccak

from commonprior.canonical import digest
from commonprior.errors import LedgerError
from commonprior.identity import Identity
from commonprior.ledger import merkle
from commonprior.ledger.client import DIRECT, OPTIMISTIC, Contracts, Rules, Terms, opening_ballot
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.public import PublicRounds, Update, accepted, chosen, in_order, mean_of
from commonprior.ledger.rpc import Rpc

ANVIL_CHAIN = 31337
NOBODY, ZERO = bytes(20), bytes(32)
BOND, DEPOSIT = 10**6, 10**8
SMALL_TERMS = Terms(DIRECT, 1, 2, 600, 600, 3600, BOND)
LARGE_TERMS = Terms(OPTIMISTIC, 24, 2, 600, 600, 3600, BOND)  # 3 chunks of 256 numbers
HIDDEN_TERMS = Terms()


def identity(name):
    """The identity that a name always has."""
    secret = hashlib.sha256(f"commonprior/test/{name}".encode()).digest()
    account = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256K1())
    return Identity(Ed25519PrivateKey.from_private_bytes(secret), account)


def word(name):
    """32 bytes that a name always has."""
    return hashlib.sha256(str(name).encode()).digest()


def refused(reason):
    """Expect a contract to refuse, for this reason and no other."""
    return pytest.raises(LedgerError, match=f"^{re.escape(reason)}$")


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: int = 1_000_000

    def __call__(self):
        return self.now


@dataclass
class Consortium:
    """Contracts, who are in them, and one run."""

    contracts: Contracts
    members: list
    clock: Clock | None = None
    run: bytes = b""
    terms: Terms = SMALL_TERMS
    made: int = 0
    receipts: dict = field(default_factory=dict)

    @property
    def rounds(self):
        return PublicRounds(self.contracts, self.run)

    @property
    def phase(self):
        return self.contracts.current(self.run).phase

    @property
    def head(self):
        return self.contracts.standing(self.run)

    def wait(self, seconds):
        if self.clock is not None:
            self.clock.now = max(self.clock.now, self.contracts.chain.head().time) + seconds
        else:
            self.contracts.chain._ask("evm_increaseTime", seconds)
        self.mine()

    def mine(self):
        """Let a block pass: one transaction that changes nothing on an embedded chain."""
        if self.clock is None:
            self.contracts.chain._ask("evm_mine")
        else:
            self.write(self.members[0], "Token", "approve", b"\1" * 20, 0)

    def write(self, *args):
        return self.contracts.write(*args)

    def read(self, *args):
        return self.contracts.read(*args)

    def sign(self, ballot, who=None):
        """Signatures of a ballot by all members, or by some."""
        asked = ballot.digest(self.contracts.counter)
        return [(m.address, m.sign_digest(asked)) for m in (self.members if who is None else who)]

    def fund(self, who, amount=10**9):
        """Give a stranger tokens, and coin where the chain asks for it."""
        endow(self.contracts.chain, who)
        self.write(self.members[0], "Token", "transfer", who.address, amount)

    def deposit(self, who, amount=DEPOSIT):
        self.write(who, "Token", "approve", self.contracts.address("Quorum"), amount)
        self.write(who, "Quorum", "deposit", amount)

    def deposit_of(self, who):
        return self.read("Quorum", "deposits", who.address)

    def forfeit(self, attempt, who, names=(), taken=0, votes=ZERO, sender=0):
        """Take the bond of one who is not in a finished round."""
        current = attempt.current
        where = (self.run, current.round, current.attempt, who.address)
        return self.write(self.members[sender], "Disputes", "forfeit", *where, list(names), taken, votes)

    def begin(self, terms=SMALL_TERMS, proposer=NOBODY, name="run", who=None):
        """Begin a run, and hold the next rounds in it."""
        entry, names = word(name) * 8, (word("family"), word("recipe"), word("prior 0"))
        votes = self.sign(opening_ballot(*names, entry, terms, proposer), who)
        self.receipts["begin"] = self.contracts.begin(self.members[0], *names, entry, terms, proposer, votes)
        self.run, self.terms = digest(entry), terms
        return self.run

    def updates(self, who=None, seed=0):
        """An update of each contributor, spread over all that int8 can hold."""
        rng = np.random.default_rng(seed)
        return [
            Update(m.address, rng.integers(-128, 128, 32 * self.terms.words).astype(np.int8).tobytes(), rng.bytes(32))
            for m in (self.members if who is None else who)
        ]

    def committed(self, updates, opener=None):
        """Open a round and have everyone commit."""
        attempt = self.rounds.open(opener or self.members[0])
        for update in updates:
            self.receipts["commit"] = self.rounds.commit(self.of(update.who), attempt, update)
        return attempt

    def of(self, account):
        return next(m for m in self.members if m.address == account)

    def ballots(self, attempt, updates, prior, entry, scores=None, who=None, reward=200, taken=None):
        """Ballots by voters; `scores` is a row for all, or one for each voter by account. They name who is averaged:
        `taken`, by default whom these voters accept."""
        rows = {}
        voters = self.members if who is None else who
        for m in voters:
            row = scores.get(m.address) if isinstance(scores, dict) else scores
            rows[m.address] = bytes([reward] * len(updates)) if row is None else row
        if taken is None:
            weights, total = self.weights(attempt)
            sized = {a: row.ljust(len(updates), b"\0") for a, row in rows.items()}
            taken = accepted(sized, {a: weights.get(a, 0) for a in rows}, total, len(updates))
        out = {}
        for m in voters:
            ballot = self.rounds.ballot(attempt, updates, taken, prior, entry, rows[m.address])
            out[m.address] = (rows[m.address], m.sign_digest(ballot.digest(self.contracts.counter)))
        return out

    def named(self):
        """A fresh (prior, entry)."""
        self.made += 1
        return word(f"prior {self.made}"), word(f"entry {self.made}") * 8

    def finish(self, attempt, updates, taken=None, ballots=None, sender=None, mean_root=None):
        """Finalise or propose: return (receipts, prior, entry, ballots)."""
        prior, entry = self.named()
        ballots = ballots(prior, entry) if ballots else self.ballots(attempt, updates, prior, entry, taken=taken)
        if taken is None:
            weights, total = self.weights(attempt)
            taken = accepted({who: row for who, (row, _) in ballots.items()}, weights, total, len(updates))
        sender = sender or self.members[0]
        if self.terms.mode == DIRECT:
            receipts = self.rounds.finalise(sender, updates, taken, prior, entry, ballots)
        else:
            root = mean_root or merkle.root(mean_of([u.delta for u in chosen(updates, taken)]))
            receipts = [self.rounds.propose(sender, updates, taken, prior, entry, root, ballots)]
        self.receipts["finalise"] = receipts[-1]
        return receipts, prior, taken, ballots

    def weights(self, attempt):
        """What each member's vote weighs in an attempt, and all together."""
        block = attempt.current.snapshot

        def weigh(who):
            return self.read("Quorum", "weight_at", who, block)

        return {m.address: weigh(m.address) for m in self.members}, weigh(NOBODY)

    def round(self, updates=None, **how):
        """One round to its end."""
        updates = self.updates() if updates is None else updates
        attempt = self.committed(updates)
        self.wait(self.terms.commit_seconds)
        out = self.finish(attempt, updates, **how)
        if self.terms.mode == OPTIMISTIC:
            self.wait(86_400)
            self.write(self.members[0], "Disputes", "settle", self.run)
        return attempt, updates, *out

    def mean(self, receipt):
        """The mean that a Finalised event says."""
        said = next(e for e in self.contracts.events(receipt) if e.name == "Finalised")
        return b"".join(w.to_bytes(32, "big") for w in said.values["mean"])

    def seal_of(self, attempt, updates, taken, ballots):
        """What a claim and a forfeit are made of: contributors, weights and scores in the contract's order."""
        weights, _ = self.weights(attempt)
        voters = sorted(ballots)
        return [u.who for u in in_order(updates)], taken, [weights[v] for v in voters], [ballots[v][0] for v in voters]


def consortium(count=3, terms=SMALL_TERMS, chain=None, clock=None, deposit=DEPOSIT, rules=None):
    """A consortium of `count` members in rising order, all with deposits, and a run begun; no run where terms is None.

    On an embedded chain in memory, unless a chain is given.
    """
    members = sorted((identity(i) for i in range(count)), key=lambda m: m.address)
    if chain is None:
        clock = clock or Clock()
        chain = Embedded(None, clock)
    for m in members:
        endow(chain, m)
    deployer = members[0]
    contracts = Contracts.deploy(chain, deployer, [m.address for m in members], rules or Rules())
    made = Consortium(contracts, members, clock)
    if deposit:
        for m in members:
            made.deposit(m, deposit)
    if terms is not None:
        made.begin(terms)
    return made


def votes_of(weights, scores):
    """The contract's hash over what was voted: by its own words, chained."""
    votes = ZERO
    for weight, row in zip(weights, scores):
        votes = keccak(votes + weight.to_bytes(32, "big") + keccak(row))
    return votes


def endow(chain, who):
    """Give an account coin to pay with, where the chain asks for it."""
    if isinstance(chain, Rpc):
        chain._ask("anvil_setBalance", "0x" + who.address.hex(), hex(10**21))


def find_anvil():
    """Where an anvil is: $ANVIL, PATH or the folder of an `npm install @foundry-rs/anvil`; None where nowhere."""
    named = os.environ.get("ANVIL")
    if named:
        return named
    below = [*Path("node_modules/.bin").glob("anvil"), *Path("node_modules/@foundry-rs").glob("anvil-*/bin/anvil")]
    return shutil.which("anvil") or next((str(file) for file in below), None)


needs_anvil = pytest.mark.skipif(find_anvil() is None, reason="no anvil on PATH, in $ANVIL or in node_modules")


@contextmanager
def anvil(*options):
    """A node of its own, with time to itself; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        find_anvil(),
        "--silent",
        "--port",
        str(port),
        "--hardfork",
        "prague",
        "--timestamp",
        "1000000",
        *options,
    ]
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        node.kill()
        node.wait()
