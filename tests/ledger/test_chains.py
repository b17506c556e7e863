"""One history on three interpreters: the embedded chain's, py-evm and anvil end in the same storage and said the same;
and the embedded chain's file: what is changed in it is found, and what was acknowledged is in it.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from eth_hash.auto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonprior.appendlog import read_records
from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.errors import CommonPriorError, JournalError, RunError
from commonprior.ledger import merkle
from commonprior.ledger.client import Contracts
from commonprior.ledger.embedded import CHAIN, Embedded, read_block
from commonprior.ledger.public import chosen, mean_of
from commonprior.ledger.rpc import Rpc

from ._consortium import (
    HIDDEN_TERMS,
    LARGE_TERMS,
    SMALL_TERMS,
    Clock,
    anvil,
    consortium,
    identity,
    needs_anvil,
    votes_of,
    word,
)

START = 1_000_100


def everything(made):
    """A history in which every contract has its part."""
    a, b, c = made.members[:3]
    disputes, rewards = made.contracts.address("Disputes"), made.contracts.address("Rewards")
    made.write(a, "Token", "approve", rewards, 10**7)
    made.write(a, "Rewards", "fund", made.run, 10**7, 10**6)
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    made.rounds.reveal(b, updates[1])
    made.wait(600)

    def row(*named):
        return made.ballots(attempt, updates[:3], *named, scores=bytes([250, 100, 0]))

    _, _, taken, ballots = made.finish(attempt, updates[:3], ballots=row)
    seal = made.seal_of(attempt, updates[:3], taken, ballots)
    made.write(a, "Rewards", "claim", made.run, 1, 0, *seal)
    made.forfeit(attempt, made.members[3], seal[0], taken, votes_of(*seal[2:]), sender=2)
    made.begin(LARGE_TERMS, name="large")
    for wrong in (1, 0):
        updates = made.updates(seed=wrong)
        attempt = made.committed(updates)
        made.wait(600)
        mean = mean_of([u.delta for u in chosen(updates, 0b1111)])
        mean = bytes([mean[0] ^ wrong]) + mean[1:]
        made.finish(attempt, updates, sender=b, mean_root=merkle.root(mean))
        if wrong:
            made.rounds.announce(c, 0, word("salt"))
            made.mine()
            made.rounds.challenge(c, 0, word("salt"), updates, mean)
    made.write(a, "Token", "approve", disputes, 10**6)
    made.write(a, "Disputes", "demand", made.run, c.address, 2)
    made.rounds.supply(c, attempt, updates[2], 2)
    made.wait(86_400)
    made.write(a, "Disputes", "settle", made.run)
    made.begin(HIDDEN_TERMS, name="hidden")
    ballot = Ballot(made.run, 1, 0, word("prior 0"), word("hidden prior"), digest(b"entry"))
    made.contracts.record(a, made.run, 0, ballot.prior, b"entry", made.sign(ballot))
    made.write(b, "Quorum", "request", 10**6)
    made.wait(604_800)
    made.write(b, "Quorum", "withdraw")
    made.write(c, "Quorum", "leave")
    return made


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A chain's file, and the chain."""
    path = tmp_path_factory.mktemp("history") / "chain.cbor"
    clock = Clock(START)
    made = everything(consortium(4, SMALL_TERMS, Embedded(path, clock), clock))
    return path, made.contracts.chain, made


def blocks_of(path):
    return [read_block(record) for record in read_records(path)[0]]


def storage_hashes(chain):
    """The root of each contract's storage as Ethereum hashes it: nothing of it can differ and this be the same."""
    import rlp
    from trie import HexaryTrie

    tries = {}
    for (address, slot), value in chain.storage().items():
        tree = tries.setdefault(address, HexaryTrie({}))
        tree[keccak(slot.to_bytes(32, "big"))] = rlp.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
    return {address: tree.root_hash for address, tree in tries.items()}


def test_the_history_has_all_contracts_and_most_of_their_functions_in_it(history):
    _, chain, made = history
    names = {e.name for r in chain.receipts for e in made.contracts.events(r)}
    assert {
        "Finalised",
        "Claimed",
        "Forfeited",
        "Challenged",
        "Void",
        "Supplied",
        "Version",
        "Withdrawn",
        "Weighs",
    } <= names
    assert len(storage_hashes(chain)) == 6


def test_py_evm_ends_in_the_same_storage_and_says_the_same(history):
    pytest.importorskip("eth.vm", reason="no py-evm: there is no second interpreter to compare with")
    from eth.constants import BLANK_ROOT_HASH
    from eth.db.atomic import AtomicDB
    from eth.vm.execution_context import ExecutionContext
    from eth.vm.forks.cancun.state import CancunState
    from eth.vm.forks.cancun.transactions import CancunTransactionBuilder

    path, chain, _ = history
    state = CancunState(AtomicDB(), ExecutionContext(
        bytes(20), 0, 0, 0, bytes(32), 10**9, [], CHAIN, 0, 0), BLANK_ROOT_HASH)  # fmt: skip
    for number, (block, receipt) in enumerate(zip(blocks_of(path), chain.receipts, strict=True), 1):
        state.execution_context = ExecutionContext(bytes(20), block.time, number, 0, bytes(32), 10**9, [], CHAIN, 0, 0)
        done = state.apply_transaction(CancunTransactionBuilder.decode(block.raw))
        state.lock_changes()
        assert not done.is_error, (number, done.output)
        logs = [
            (address, tuple(t.to_bytes(32, "big") for t in topics), data)
            for address, topics, data in done.get_log_entries()
        ]
        assert logs == [tuple(log) for log in receipt.logs], number
        if done.msg.is_create:
            continue
        assert done.output == receipt.output
    state.persist()
    for address, root in storage_hashes(chain).items():
        assert state._account_db._get_account(address).storage_root == root


@needs_anvil
def test_anvil_ends_in_the_same_storage_and_says_the_same(history):
    path, chain, made = history
    with anvil("--base-fee", "0", "--chain-id", str(CHAIN)) as url:
        node = Rpc(url, CHAIN)
        for number, (block, receipt) in enumerate(zip(blocks_of(path), chain.receipts, strict=True), 1):
            node._ask("evm_setNextBlockTimestamp", block.time)
            done = node.send_raw(block.raw)
            assert (done.block, done.logs) == (number, receipt.logs)
        # Its own storage hash is over the zeros too that were ever written.
        assert dumped(node, made.contracts.addresses) == chain.storage()
        assert [node.code(a) for a in made.contracts.addresses] == [
            chain.code(a).rstrip(b"\0") for a in made.contracts.addresses
        ]
        Contracts(node, made.contracts.addresses).check()


def dumped(node, addresses):
    """All storage of some of a node's contracts, without zeros."""
    accounts = json.loads(gzip.decompress(bytes.fromhex(node._ask("anvil_dumpState")[2:])))["accounts"]
    slots = {(bytes.fromhex(a[2:]), int(slot, 16)): int(value, 16)
             for a, account in accounts.items() for slot, value in account["storage"].items()}  # fmt: skip
    return {place: value for place, value in slots.items() if value and place[0] in addresses}


def test_a_file_that_is_opened_again_is_the_same_chain(history):
    path, chain, _ = history
    again = Embedded(path, Clock(START))
    assert again.head() == chain.head()
    assert again.storage_root() == chain.storage_root()
    assert again.receipts == chain.receipts


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A short chain's bytes, where its records begin, and its head."""
    path = tmp_path_factory.mktemp("short") / "chain.cbor"
    made = consortium(1, HIDDEN_TERMS, Embedded(path, Clock(START)), Clock(START))
    data, starts, at = path.read_bytes(), [], 0
    while at < len(data):
        starts.append(at)
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return data, starts, made.contracts.chain.head()


@pytest.mark.parametrize("differs", ["transaction", "time"])
def test_a_head_is_of_one_history_alone(differs):
    """The same last block on another block before it has another hash."""
    heads = []
    for which in (0, 1):
        clock = Clock(START)
        made = consortium(2, None, Embedded(None, clock), clock, deposit=0)
        a, b = made.members
        clock.now = START + 100 + (which if differs == "time" else 0)
        made.write(a, "Token", "approve", b"\1" * 20, which if differs == "transaction" else 0)
        clock.now = START + 200
        made.write(b, "Token", "approve", b"\1" * 20, 7)
        heads.append(made.contracts.chain.head())
    assert heads[0][::2] == heads[1][::2]
    assert heads[0].hash != heads[1].hash


FILE = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(folder, data):
    path = folder / "changed.cbor"
    path.write_bytes(data)
    return Embedded(path, Clock(START)).head()


@FILE
@given(st.data())
def test_attack_a_single_bit_changed_in_a_block_is_found(short, tmp_path, data):
    whole, starts, _ = short
    start = data.draw(st.sampled_from(starts))
    size = int.from_bytes(whole[start : start + 4], "big")
    at = start + 4 + data.draw(st.integers(0, 60) | st.integers(0, size - 1))  # its hash and its time stand first
    flipped = whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]
    with pytest.raises(JournalError, match=r"changed\.cbor: (block|record) \d+"):
        opened(tmp_path, flipped)


@FILE
@given(st.data())
def test_attack_a_single_bit_changed_in_a_length_is_found(short, tmp_path, data):
    """A length that is too large looks like a record that a crash has torn: what follows must not go with it."""
    whole, starts, _ = short
    at = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 3))
    flipped = whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]
    with pytest.raises(JournalError):
        opened(tmp_path, flipped)


@FILE
@given(st.data())
def test_attack_blocks_in_another_order_twice_or_left_out_are_found(short, tmp_path, data):
    whole, starts, head = short
    records = [whole[a:b] for a, b in zip(starts, [*starts[1:], len(whole)])]
    i, j = sorted(data.draw(st.lists(st.integers(0, len(records) - 1), min_size=2, max_size=2, unique=True)))
    other = list(records)
    match data.draw(st.sampled_from(["swap", "twice", "left out"])):
        case "swap":
            other[i], other[j] = other[j], other[i]
        case "twice":
            other.insert(j, records[i])
        case _:
            del other[i]  # never the last
    with pytest.raises(JournalError, match=r"changed\.cbor: block \d+"):
        opened(tmp_path, b"".join(other))
    assert head.number == len(records)


@FILE
@given(st.data())
def test_a_file_cut_short_is_an_earlier_state_of_the_same_chain_and_its_head_says_so(short, tmp_path, data):
    whole, starts, head = short
    cut = opened(tmp_path, whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert cut.number < head.number
    hashes = [read_block(whole[a + 4 : b]).hash for a, b in zip(starts, [*starts[1:], len(whole)])]
    assert cut.hash == ([bytes(32), *hashes])[cut.number]


SENDER = """
    import sys
    from pathlib import Path
    from ledger._consortium import identity
    from commonprior.ledger.embedded import Embedded
    chain = Embedded(Path(sys.argv[1]))
    who, to = identity(0), bytes.fromhex(sys.argv[2])
    for number in range(1_000_000):
        receipt = chain.send(who, to, bytes.fromhex(sys.argv[3]))
        print(chain.head().number, chain.head().hash.hex(), flush=True)
"""


@pytest.mark.parametrize("after", [1, 3, 10])
def test_a_process_that_is_killed_loses_nothing_that_it_was_told_is_done(tmp_path, after):
    from commonprior.ledger.contract import artefact

    path = tmp_path / "chain.cbor"
    made = consortium(1, None, Embedded(path, Clock(START)), Clock(START))
    data = artefact("Token").functions["approve"].encode((bytes(20), 1))
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SENDER),
        str(path),
        made.contracts.address("Token").hex(),
        data.hex(),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    said = [process.stdout.readline().split() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    said += [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
    process.wait()
    process.stdout.close()
    chain = Embedded(path, Clock(START))
    hashes = {number: block.hash.hex() for number, block in enumerate(blocks_of(path), 1)}
    assert all(hashes[int(number)] == hash_ for number, hash_ in said if len(hash_) == 64)
    chain.send(identity(0), made.contracts.address("Token"), data)  # and it goes on


def test_a_disk_that_is_full_loses_nothing_and_the_same_transaction_can_be_sent_again(tmp_path, monkeypatch):
    path = tmp_path / "chain.cbor"
    made = consortium(2, HIDDEN_TERMS, Embedded(path, Clock(START)), Clock(START))
    chain, ballot = made.contracts.chain, Ballot(made.run, 1, 0, word("prior 0"), word("p"), digest(b"entry"))

    def full(record):
        raise RunError("the disk is full")

    def send():
        return made.contracts.record(made.members[0], made.run, 0, word("p"), b"entry", made.sign(ballot))

    with monkeypatch.context() as patch:
        patch.setattr(chain._log, "append", full)
        with pytest.raises(RunError):
            send()
    assert made.head.rounds == 0
    send()
    assert (made.head.rounds, Embedded(path, Clock(START)).head()) == (1, chain.head())


def race(contracts, run, members):
    """Two coordinators with two different ends of one round, both with two thirds of the votes: who wins?"""
    out, lost = [], []
    for which, each in enumerate(contracts):
        ballot = Ballot(run, 1, which, word("prior 0"), word(f"prior {which}"), digest(b"entry"))
        votes = [(m.address, m.sign_digest(ballot.digest(each.counter))) for m in members]
        try:
            each.record(members[which], run, which, ballot.prior, b"entry", votes)
            out.append(which)
        except CommonPriorError as error:
            lost.append(str(error))
    assert not any("\n" in text for text in lost)
    return out


def test_two_coordinators_that_record_one_round_on_one_file_make_one_history(tmp_path):
    path = tmp_path / "chain.cbor"
    made = consortium(3, HIDDEN_TERMS, Embedded(path, Clock(START)), Clock(START))
    addresses = made.contracts.addresses
    both = [made.contracts, Contracts(Embedded(path, Clock(START)), addresses)]
    assert race(both, made.run, made.members) == [0]
    again = Contracts(Embedded(path, Clock(START)), addresses)
    assert again.standing(made.run)[:2] == (1, word("prior 0"))


@needs_anvil
def test_two_coordinators_that_record_one_round_on_a_node_make_one_history():
    with anvil("--base-fee", "0") as url:
        made = consortium(3, HIDDEN_TERMS, Rpc(url, 31337))
        other = Contracts(Rpc(url, 31337), made.contracts.addresses)
        assert race([made.contracts, other], made.run, made.members) == [0]
        assert other.standing(made.run)[:2] == (1, word("prior 0"))
