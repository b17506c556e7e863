"""A node of one's own: what goes wrong there is one sentence, changes nothing, and can be sent again."""

import pytest
from eth_hash.auto import keccak

from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.errors import CommonPriorError, LedgerError
from commonprior.ledger import merkle
from commonprior.ledger.client import Contracts
from commonprior.ledger.contract import artefact
from commonprior.ledger.public import mean_of
from commonprior.ledger.rpc import Rpc
from commonprior.ledger.transaction import Transaction

from ._consortium import (
    ANVIL_CHAIN,
    HIDDEN_TERMS,
    LARGE_TERMS,
    SMALL_TERMS,
    anvil,
    consortium,
    identity,
    needs_anvil,
    refused,
    word,
)

pytestmark = needs_anvil


@pytest.fixture(scope="module")
def url():
    with anvil("--base-fee", "0") as address:
        yield address


@pytest.fixture
def made(url):
    return consortium(3, HIDDEN_TERMS, Rpc(url, ANVIL_CHAIN, patience=10))


def ballot_of(made, number=1, base="prior 0"):
    return Ballot(made.run, number, 0, word(base), word(f"prior {number}"), digest(b"entry"))


def record(made, ballot, sender=0, contracts=None):
    contracts = contracts or made.contracts
    votes = [(m.address, m.sign_digest(ballot.digest(contracts.counter))) for m in made.members]
    return contracts.record(made.members[sender], made.run, ballot.attempt, ballot.prior, b"entry", votes)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_a_round_is_the_same_on_a_node_as_on_the_embedded_chain(url):
    node, embedded = consortium(4, SMALL_TERMS, Rpc(url, ANVIL_CHAIN)), consortium(4, SMALL_TERMS)
    (said,), (said_here,) = node.round()[2], embedded.round()[2]
    assert node.mean(said) == embedded.mean(said_here) == mean_of([u.delta for u in embedded.updates()])
    assert node.head == embedded.head


def test_a_refusal_gives_the_contract_s_reason_and_costs_nothing(made):
    ballot = ballot_of(made)
    record(made, ballot)
    nonce = made.contracts.chain.nonce(made.members[0].address)
    with pytest.raises(LedgerError, match="^Q: (no vote|order)$"):
        record(made, ballot)  # its base is stale by now
    assert made.contracts.chain.nonce(made.members[0].address) == nonce
    record(made, ballot_of(made, 2, "prior 1"))
    assert made.head.rounds == 2


def test_a_transaction_sent_twice_is_counted_once(made):
    chain, who = made.contracts.chain, made.members[0]
    known = artefact("Token").functions["transfer"].encode((word("x")[:20], 1))
    raw = Transaction(
        ANVIL_CHAIN, chain.nonce(who.address), 0, 0, 200_000, made.contracts.address("Token"), known
    ).sign(who)
    first = chain.send_raw(raw)
    assert chain.send_raw(raw) == first
    assert first.hash == keccak(raw)
    assert made.read("Token", "balanceOf", word("x")[:20]) == 1


def test_the_hash_is_told_before_the_bytes_leave(url):
    told = []
    chain = Rpc(url, ANVIL_CHAIN, sent=told.append)
    made = consortium(1, None, chain, deposit=0)
    receipt = made.write(made.members[0], "Token", "approve", b"\1" * 20, 1)
    assert told[-1] == receipt.hash


def test_a_node_of_another_chain_is_refused(url):
    with pytest.raises(
        LedgerError, match=r"127\.0\.0\.1:\d+: is on chain 31337, expected 1: name a node of that chain"
    ) as error:
        Rpc(url, 1)
    one_sentence(error)


def test_a_node_that_is_down_is_one_sentence_without_what_may_be_a_secret():
    with pytest.raises(LedgerError, match="the node does not answer .* start it, or name another one") as error:
        Rpc("http://user:secret@127.0.0.1:9/path?key=secret", ANVIL_CHAIN, patience=1)
    assert "secret" not in one_sentence(error)


def test_a_node_that_goes_down_and_comes_back_with_its_state_goes_on(tmp_path):
    state = tmp_path / "state.json"
    with anvil("--base-fee", "0", "--state", str(state), "--state-interval", "1") as url:
        made = consortium(3, HIDDEN_TERMS, Rpc(url, ANVIL_CHAIN, patience=2))
        held = made.contracts.chain._ask("anvil_dumpState")
    with pytest.raises(LedgerError, match="the node does not answer") as error:
        record(made, ballot_of(made))
    one_sentence(error)
    with anvil("--base-fee", "0") as url:
        chain = Rpc(url, ANVIL_CHAIN)
        chain._ask("anvil_loadState", held)
        again = Contracts(chain, made.contracts.addresses)
        record(made, ballot_of(made), contracts=again)
        assert again.standing(made.run).rounds == 1


def test_an_account_that_cannot_pay_is_told_so_and_can_send_again():
    with anvil() as url:  # fees as they are by default
        chain = Rpc(url, ANVIL_CHAIN)
        made = consortium(3, HIDDEN_TERMS, chain)
        poor = identity("poor")
        data = artefact("Token").functions["approve"].encode((b"\1" * 20, 1))
        for coin in (0, 10**9):
            chain._ask("anvil_setBalance", "0x" + poor.address.hex(), hex(coin))
            with pytest.raises(LedgerError, match="too little to pay for|nsufficient funds") as error:
                chain.send(poor, made.contracts.address("Token"), data)
            assert "send it some of the chain's coin, and run the same command again" in one_sentence(error)
        made.fund(poor, 1)
        assert chain.send(poor, made.contracts.address("Token"), data).ok


def test_contracts_that_are_not_there_or_of_another_version_or_mixed_up_are_refused(made):
    chain, addresses = made.contracts.chain, made.contracts.addresses
    with pytest.raises(LedgerError, match="no contract at 0x.* on chain 31337: expected Token") as error:
        Contracts(chain, (word("nowhere")[:20], *addresses[1:])).check()
    one_sentence(error)
    with pytest.raises(LedgerError, match="is not this version's Token: use the version") as error:
        Contracts(chain, (addresses[1], *addresses[1:])).check()
    one_sentence(error)
    code = bytearray(chain.code(addresses[3]))
    code[100] ^= 1
    chain._ask("anvil_setCode", "0x" + addresses[3].hex(), "0x" + code.hex())
    with pytest.raises(LedgerError, match="is not this version's Rounds"):
        made.contracts.check()
    other = consortium(3, None, chain)
    with pytest.raises(LedgerError, match=r"the \w+ at 0x\w+ belongs to another \w+") as error:
        Contracts(chain, (*other.contracts.addresses[:5], addresses[5])).check()
    one_sentence(error)


def test_a_reorganisation_that_loses_a_record_is_healed_by_sending_it_again(made):
    chain, ballot = made.contracts.chain, ballot_of(made)
    before = chain._ask("evm_snapshot")
    lost = record(made, ballot)
    assert made.head.rounds == 1
    assert chain._ask("evm_revert", before)
    assert made.head.rounds == 0
    again = record(made, ballot)
    assert made.head[:2] == (1, ballot.prior)
    assert lost.ok
    assert again.ok


def test_a_chain_that_is_reorganised_below_a_record_is_healed_by_sending_it_again(made):
    chain, ballot = made.contracts.chain, ballot_of(made)
    made.mine()
    record(made, ballot)
    chain._ask("anvil_reorg", 1, [])
    assert made.head.rounds == 0
    record(made, ballot)
    assert made.head[:2] == (1, ballot.prior)


def test_a_transaction_waits_for_as_many_blocks_as_are_asked_for(url):
    chain = Rpc(url, ANVIL_CHAIN, confirmations=3, patience=0.3)
    made = consortium(1, None, Rpc(url, ANVIL_CHAIN), deposit=0)
    data = artefact("Token").functions["approve"].encode((b"\1" * 20, 1))
    with pytest.raises(LedgerError, match="in no block after 0.3 seconds; run the same command again") as error:
        chain.send(made.members[0], made.contracts.address("Token"), data)
    one_sentence(error)


def test_a_transaction_that_is_refused_in_its_block_is_said_to_be(made):
    """Between the estimate and the block another one was first: both were sent, one of them is refused."""
    chain, who = made.contracts.chain, made.members[0]
    data = artefact("Token").functions["transfer"].encode((word("y")[:20], 10**12))
    raw = Transaction(ANVIL_CHAIN, chain.nonce(who.address), 0, 0, 200_000, made.contracts.address("Token"), data).sign(
        who
    )
    with pytest.raises(LedgerError, match=r"refused|T: balance") as error:
        chain.send_raw(raw)
    one_sentence(error)


def test_a_transaction_larger_than_one_may_be_is_refused_before_it_is_sent(made):
    counting = bytes.fromhex("63000c3500" + "5b" + "6001900380600557" + "00")  # 800,000 times from there down to 0
    with pytest.raises(
        CommonPriorError, match=r"the transaction needs \d+ gas, at most 16777216: send it in pages"
    ) as error:
        made.contracts.chain.send(made.members[0], None, counting)
    one_sentence(error)


def test_attack_a_challenge_in_the_block_of_its_announcement_is_refused(url):
    """Who reads the queue could copy a challenge, and announce and bring it in one block; here both are one's own."""
    made = consortium(3, LARGE_TERMS, Rpc(url, ANVIL_CHAIN, patience=10))
    updates = made.updates()
    attempt = made.committed(updates)
    made.wait(600)
    mean = bytes([mean_of([u.delta for u in updates])[0] ^ 1]) + mean_of([u.delta for u in updates])[1:]
    made.finish(attempt, updates, mean_root=merkle.root(mean))
    chain, thief = made.contracts.chain, made.members[2]
    words = thief.address.rjust(32, b"\0"), made.run, bytes(32), word("salt")
    both = [
        artefact("Disputes").functions["announce"].encode((keccak(b"".join(words)),)),
        artefact("Disputes").functions["challenge"].encode((
            made.run, 0, word("salt"), [u.who for u in updates], [merkle.chunks_of(u.delta)[0] for u in updates],
            [merkle.proof(merkle.levels_of(u.delta), 0) for u in updates], mean[:256],
            merkle.proof(merkle.levels_of(mean), 0))),
    ]  # fmt: skip
    nonce, hashes = chain.nonce(thief.address), []
    chain._ask("evm_setAutomine", False)
    for i, data in enumerate(both):
        raw = Transaction(ANVIL_CHAIN, nonce + i, 0, 0, 1_000_000, made.contracts.address("Disputes"), data).sign(thief)
        hashes.append(chain._ask("eth_sendRawTransaction", "0x" + raw.hex()))
    chain._ask("evm_setAutomine", True)
    chain._ask("evm_mine")
    announced, challenged = (chain._ask("eth_getTransactionReceipt", h) for h in hashes)
    assert announced["blockNumber"] == challenged["blockNumber"]
    assert (announced["status"], challenged["status"]) == ("0x1", "0x0")
    assert made.phase == 2
    made.rounds.challenge(thief, 0, word("salt"), updates, mean)  # a block later it holds
    assert made.phase == 0


def test_nothing_answers_where_there_is_no_contract(made):
    nowhere = Contracts(made.contracts.chain, (word("nowhere")[:20],) * 6)
    with pytest.raises(LedgerError, match="nothing answers at 0x.*: no Registry is there"):
        nowhere.standing(made.run)
    assert made.contracts.standing(word("no run")) is None
    with refused("G: unknown"):
        made.read("Registry", "head", word("no run"))


def test_logs_and_data_can_be_read_back(made):
    chain, registry = made.contracts.chain, made.contracts.address("Registry")
    receipt = record(made, ballot_of(made))
    (hash_, _, log), = chain.logs([registry], [None, made.run, (1).to_bytes(32, "big")])  # fmt: skip
    assert (hash_, log) == (receipt.hash, next(entry for entry in receipt.logs if entry.address == registry))
    to, data = chain.data_of(receipt.hash)
    assert to == made.contracts.address("Rounds")
    assert artefact("Rounds").call_of(data)[1][:4] == (made.run, 0, word("prior 1"), b"entry")
