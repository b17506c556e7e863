"""What the ledger costs: gas of a round of public deltas on a node, seconds of one of hidden deltas in this process.

    python benchmarks/ledger.py [--rounds 1000] [--json FILE]

Gas is a node's receipts: of anvil, where one is on PATH, in $ANVIL or in node_modules; else its rows are listed as
skipped. A round of public deltas is its second one, all of it: opening, commitments, and the transaction that carries
the deltas and the ballots. Beside it stands what its bytes alone cost by EIP-7623, which no contract goes below.
A round of hidden deltas is ten members' signatures, the contract's count of them, and the disk's word that it has the
block; beside it, how often this disk can say so. Last, a whole run is trained, and audited from its folder. Accounts
are fresh in every run: gas moves by some hundred units.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.identity import Identity
from commonprior.learners.maml import Maml
from commonprior.ledger import Chain, merkle
from commonprior.ledger.audit import audit
from commonprior.ledger.client import DIRECT, OPTIMISTIC, Contracts, Terms, opening_ballot
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.public import Attempt, PublicRounds, Update, mean_of
from commonprior.ledger.rpc import Rpc
from commonprior.networks.mlp import Mlp
from commonprior.prior import flatten
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sums.masked import Masked
from commonprior.tasks.sinusoid import Sinusoid
from commonprior.training import start

NODE, EMBEDDED, MACHINE, BYTES = "commonprior on anvil", "commonprior embedded", "this machine", "calldata (EIP-7623)"
MEMBERS, HIDDEN_MEMBERS = 5, 10
ANVIL_CHAIN, BOND = 31337, 10**6
ENTRY = 1800
"""Bytes of a record of ten sites."""


def members_of(count: int) -> list[Identity]:
    """Return fresh identities in the contracts' order."""
    return sorted((Identity.generate() for _ in range(count)), key=lambda m: m.address)


def begin(contracts: Contracts, members: Sequence[Identity], terms: Terms) -> tuple[bytes, bytes, int]:
    """Begin a run: its name, its first prior and what it cost."""
    family, recipe, prior, entry = (secrets.token_bytes(32) for _ in range(4))
    asked = opening_ballot(family, recipe, prior, entry, terms, bytes(20)).digest(contracts.counter)
    votes = [(m.address, m.sign_digest(asked)) for m in members]
    receipt = contracts.begin(members[0], family, recipe, prior, entry, terms, bytes(20), votes)
    return digest(entry), prior, receipt.gas


def committed(
    rounds: PublicRounds, members: Sequence[Identity], numbers: int
) -> tuple[Attempt, list[Update], list[int]]:
    """Open a round in which everyone commits to numbers as a clipped Gaussian makes them; return the gas of each."""
    rng = np.random.default_rng(numbers)
    drawn = (np.clip(np.rint(rng.normal(0, 20, numbers)), -127, 127).astype(np.int8) for _ in members)
    updates = [Update.make(m.address, row) for m, row in zip(members, drawn)]
    attempt = rounds.open(members[0])
    return attempt, updates, [rounds.commit(m, attempt, u).gas for m, u in zip(members, updates)]


def ballots_of(contracts: Contracts, rounds: PublicRounds, attempt: Attempt, members: Sequence[Identity],
               updates: Sequence[Update], prior: bytes, entry: bytes) -> dict[bytes, tuple[bytes, bytes]]:  # fmt: skip
    """Return everyone's ballot, which accepts everyone."""
    row = bytes([200] * len(updates))
    asked = rounds.ballot(attempt, updates, 2 ** len(updates) - 1, prior, entry, row).digest(contracts.counter)
    return {m.address: (row, m.sign_digest(asked)) for m in members}


def floor_of(data: bytes) -> int:
    """Return what a transaction's bytes alone cost: EIP-7623's floor, ten for a zero and forty for any other."""
    zeros = data.count(0)
    return 21_000 + 10 * (zeros + 4 * (len(data) - zeros))


def small(contracts: Contracts, members: Sequence[Identity], chain: Rpc) -> list[Row]:
    """Hold two rounds of 1,000 numbers; return what the second one cost."""
    run, _, _ = begin(contracts, members, Terms(DIRECT, 32, 2, 600, 600, 3600, BOND))
    rounds, rows, case = PublicRounds(contracts, run), list[Row](), f"{MEMBERS} contributors x 1,000 int8:"
    for _ in range(2):
        before = chain.head().number
        attempt, updates, commits = committed(rounds, members, 1000)
        opened = int(chain._ask("eth_getBlockByNumber", hex(before + 1), False)["gasUsed"], 16)
        wait(chain, 600)
        prior, entry = secrets.token_bytes(32), secrets.token_bytes(300)
        ballots = ballots_of(contracts, rounds, attempt, members, updates, prior, entry)
        (done,) = rounds.finalise(members[0], updates, (1 << MEMBERS) - 1, prior, entry, ballots)
        _, data = chain.data_of(done.hash)
        rows = [
            Row(NODE, f"{case} whole round: open, commits, ballots, mean", opened + sum(commits) + done.gas, "gas",
                "<= 900000"),
            Row(NODE, f"{case} opening", opened, "gas"),
            Row(NODE, f"{case} one commitment", max(commits), "gas", "<= 80000"),
            Row(NODE, f"{case} deltas, ballots, mean in one transaction", done.gas, "gas"),
            Row(BYTES, f"{case} limit: the {len(data):,} bytes of that transaction", floor_of(data), "gas"),
        ]  # fmt: skip
    return rows


def large(contracts: Contracts, members: Sequence[Identity], chain: Rpc) -> list[Row]:
    """Have a wrong mean of 262,144 numbers proposed, and challenged."""
    run, _, _ = begin(contracts, members, Terms(OPTIMISTIC, 8192, 2, 600, 600, 3600, BOND))
    rounds, case = PublicRounds(contracts, run), f"{MEMBERS} contributors x 262,144 int8:"
    attempt, updates, _ = committed(rounds, members, 262_144)
    wait(chain, 600)
    prior, entry = secrets.token_bytes(32), secrets.token_bytes(300)
    ballots = ballots_of(contracts, rounds, attempt, members, updates, prior, entry)
    mean = bytearray(mean_of([u.delta for u in updates]))
    mean[300] ^= 1
    said = merkle.root(bytes(mean))
    proposed = rounds.propose(members[1], updates, (1 << MEMBERS) - 1, prior, entry, said, ballots)
    salt = secrets.token_bytes(32)
    announced = rounds.announce(members[2], 1, salt)
    chain._ask("evm_mine")
    done = rounds.challenge(members[2], 1, salt, updates, bytes(mean))
    return [
        Row(NODE, f"{case} proposal", proposed.gas, "gas"),
        Row(NODE, f"{case} announcing a challenge", announced.gas, "gas"),
        Row(NODE, f"{case} challenge of one chunk", done.gas, "gas", "<= 220000"),
        Row(BYTES, f"{case} limit: the bytes of that challenge", floor_of(chain.data_of(done.hash)[1]), "gas"),
    ]


def hidden_on(contracts: Contracts, members: Sequence[Identity]) -> list[Row]:
    """Record two rounds; return what the second one cost."""
    run, prior, begun = begin(contracts, members, Terms())
    spent = 0
    for number in (1, 2):
        entry, new = secrets.token_bytes(ENTRY), secrets.token_bytes(32)
        spent, prior = record(contracts, members, run, number, prior, new, entry), new
    return [
        Row(NODE, f"{MEMBERS} members: beginning a run", begun, "gas"),
        Row(NODE, f"{MEMBERS} members, hidden deltas: one round, its record of {ENTRY:,} bytes", spent, "gas"),
    ]


def record(contracts: Contracts, members: Sequence[Identity], run: bytes, number: int, base: bytes, prior: bytes,
           entry: bytes) -> int:  # fmt: skip
    """Sign and enter a round of hidden deltas; return its gas."""
    asked = Ballot(run, number, 0, base, prior, digest(entry)).digest(contracts.counter)
    votes = [(m.address, m.sign_digest(asked)) for m in members]
    return contracts.record(members[0], run, 0, prior, entry, votes).gas


def wait(chain: Rpc, seconds: int) -> None:
    chain._ask("evm_increaseTime", seconds)
    chain._ask("evm_mine")


def staked(chain: Chain, members: Sequence[Identity]) -> Contracts:
    """Deploy the contracts and put a deposit down for each member."""
    contracts = Contracts.deploy(chain, members[0], [m.address for m in members])
    for m in members:
        contracts.write(m, "Token", "approve", contracts.address("Quorum"), 10 * BOND)
        contracts.write(m, "Quorum", "deposit", 10 * BOND)
    return contracts


def on_a_node() -> list[Row]:
    """Everything that is counted in gas."""
    program = find_anvil()
    if program is None:
        return [Row(NODE, "gas of a round, a commitment, a challenge, a record", None, "skipped: no anvil is here")]
    with node(program) as url:
        chain, members = Rpc(url, ANVIL_CHAIN), members_of(MEMBERS)
        for m in members:
            chain._ask("anvil_setBalance", "0x" + m.address.hex(), hex(10**21))
        contracts = staked(chain, members)
        made = [int(chain._ask("eth_getBlockByNumber", hex(n), False)["gasUsed"], 16) for n in range(1, 7)]
        deployed = Row(NODE, f"deploying all six contracts for {MEMBERS} members, once", sum(made), "gas")
        return [
            *small(contracts, members, chain),
            *large(contracts, members, chain),
            *hidden_on(contracts, members),
            deployed,
        ]


def embedded(rounds: int, folder: Path) -> list[Row]:
    """Everything that is counted in seconds."""
    path, members = folder / "chain.cbor", members_of(HIDDEN_MEMBERS)
    start = time.perf_counter()
    contracts = Contracts.deploy(Embedded(path), members[0], [m.address for m in members])
    deployed = time.perf_counter() - start
    run, prior, _ = begin(contracts, members, Terms())
    each, busy = list[float](), time.process_time()
    for number in range(1, rounds + 1):
        entry, new = secrets.token_bytes(ENTRY), secrets.token_bytes(32)
        start = time.perf_counter()
        record(contracts, members, run, number, prior, new, entry)
        each.append(time.perf_counter() - start)
        prior = new
    busy = (time.process_time() - busy) / rounds
    start, working = time.perf_counter(), time.process_time()
    again = Embedded(path)
    replayed, working = time.perf_counter() - start, time.process_time() - working
    case = f"{HIDDEN_MEMBERS} members, hidden deltas:"
    whole = again.storage_root() == contracts.chain.storage_root()  # pyright: ignore[reportAttributeAccessIssue]
    return [
        Row(EMBEDDED, f"{case} one round, ten signatures and fsync included (median)", 1e3 * float(np.median(each)),
            "ms", "<= 50"),
        Row(EMBEDDED, f"{case} one round, 99 of 100 take no longer", 1e3 * float(np.quantile(each, 0.99)), "ms"),
        Row(EMBEDDED, f"{case} one round, of it processor time, the disk's not counted (mean)", 1e3 * busy, "ms"),
        Row(EMBEDDED, f"{case} rounds, one after the other", len(each) / sum(each), "1/s", ">= 100"),
        Row(MACHINE, f"limit: records of {ENTRY:,} bytes appended and fsynced, in turn", synced(folder), "1/s"),
        Row(EMBEDDED, f"{case} opening the file anew, {rounds:,} rounds replayed and checked", replayed, "s", "<= 10"),
        Row(EMBEDDED, f"{case} the same, processor time", working, "s"),
        Row(EMBEDDED, f"{case} rounds in which the replay ends in the same storage", rounds if whole else 0, "rounds",
            f">= {rounds}"),
        Row(EMBEDDED, f"{case} the file, bytes a round", path.stat().st_size / rounds, "bytes"),
        Row(EMBEDDED, "deploying all six contracts", 1e3 * deployed, "ms"),
    ]  # fmt: skip


def audited(rounds: int, folder: Path) -> list[Row]:
    """A whole run of as many sites, from its first byte: entries, blocks, ballots, sums from sealed bytes, priors."""
    recipe = Recipe(
        Sinusoid(sites=HIDDEN_MEMBERS), Maml(Mlp(widths=(8,)), inner_steps=1), DiscreteGaussian(clip=10.0, per="site"),
        Masked(), Schedule(rounds=rounds, tasks_per_site=3, shots=5, queries=5),
    )  # fmt: skip
    training, each = start(recipe, folder / "run"), list[float]()
    for _ in range(rounds):
        begun = time.perf_counter()
        training.coordinator.step(training.engine)
        each.append(time.perf_counter() - begun)
    begun, busy = time.perf_counter(), time.process_time()
    verdict = audit(folder / "run")
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    size = flatten(training.coordinator.prior.params).size
    case = f"a run of {rounds:,} rounds, {HIDDEN_MEMBERS} sites, masked sum, {size} parameters:"
    return [
        Row(EMBEDDED, f"{case} one round of training, all of it (median)", 1e3 * float(np.median(each)), "ms"),
        Row(EMBEDDED, f"{case} audit of its folder", seconds, "s", "<= 10"),
        Row(EMBEDDED, f"{case} the same, processor time", busy, "s"),
        Row(EMBEDDED, f"{case} sums recomputed from sealed bytes", verdict.resummed, "rounds", f">= {rounds}"),
        Row(EMBEDDED, f"{case} priors recomputed from sums", verdict.recomputed, "rounds", f">= {rounds}"),
    ]


def synced(folder: Path, count: int = 300) -> float:
    """Return how many appends of a record's size the disk acknowledges a second."""
    block, path = secrets.token_bytes(ENTRY), folder / "synced"

    def append() -> None:
        with path.open("ab") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())

    return count / seconds_of(append, count)


def seconds_of(act: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        act()
    return time.perf_counter() - start


def find_anvil() -> str | None:
    """Return where an anvil is."""
    below = [*Path("node_modules/.bin").glob("anvil"), *Path("node_modules/@foundry-rs").glob("anvil-*/bin/anvil")]
    return os.environ.get("ANVIL") or shutil.which("anvil") or next((str(file) for file in below), None)


@contextmanager
def node(program: str) -> Iterator[str]:
    """Run a node for as long as it is needed; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--silent", "--port", str(port), "--hardfork", "prague", "--base-fee", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=1000, help="rounds on the embedded chain, and of the run that is audited"
    )
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*on_a_node(), *embedded(options.rounds, Path(folder)), *audited(options.rounds, Path(folder))]
    print_rows(Console(width=160), "ledger", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
