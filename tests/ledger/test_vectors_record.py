"""The record's bytes, pinned: `tests/vectors/record.json` is what this file writes when run by itself.

Another implementation of docs/spec/record.md needs SHA-256, Keccak-256, Ed25519, secp256k1, deterministic CBOR and RLP.
The secret of every key is the SHA-256 of its label; both kinds of signature are deterministic (RFC 8032, RFC 6979).
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_hash.auto import keccak

from commonprior.appendlog import AppendLog
from commonprior.ballot import Ballot, Place
from commonprior.canonical import digest, encode
from commonprior.entry import Opening, Round, family_of, make_record, opening_ballot, round_ballot, statement_of
from commonprior.identity import Identity, signer_of
from commonprior.identity import verify as ed25519
from commonprior.ledger import merkle, public, verify
from commonprior.ledger.client import Terms, commitment, joined, key_of, names_of, subject_of
from commonprior.ledger.contract import artefact
from commonprior.ledger.transaction import Transaction, address_made, read_transaction
from commonprior.prior import Prior, save_prior
from commonprior.session import Encoding, Member, consistency_statement

FILE = Path(__file__).parents[1] / "vectors" / "record.json"
SITES, LABELS = 3, ("site 0", "site 1", "site 2", "coordinator")


def secret(label):
    return hashlib.sha256(label.encode()).digest()


def keys(label):
    number = int.from_bytes(secret(label), "big")
    return Identity(Ed25519PrivateKey.from_private_bytes(secret(label)), ec.derive_private_key(number, ec.SECP256K1()))


def make_place(sites):
    addresses = tuple(address_made(keys("coordinator").address, nonce) for nonce in range(6))
    return Place("embedded", "hidden", 0x63707269, addresses, tuple(s.address for s in sites))


def make_prior(number):
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 4 + number, "bias": np.zeros(0, np.float32)}
    return Prior(tensors, {"count": np.float32(number).reshape(())})


def make_record_of(entry, ballot, sites, place):
    """Everything that is signed about an entry, and the journal's record of it."""
    data, vote = entry.encode(), ballot.digest(place.counter)
    signatures = tuple((seat, s.sign(statement_of(data))) for seat, s in enumerate(sites))
    ballots = tuple((seat, s.sign_digest(vote)) for seat, s in enumerate(sites))
    record = encode(make_record(data, signatures, ballots))
    return record, {
        "entry": data.hex(), "hash": digest(data).hex(), "statement": statement_of(data).hex(),
        "signatures": [s.hex() for _, s in signatures], "ballot": vote.hex(), "subject": ballot.subject.hex(),
        "ballots": [b.hex() for _, b in ballots], "record": record.hex(),
    }  # fmt: skip


def make_journal():
    """Two records and what they are made of."""
    sites, boss = [keys(label) for label in LABELS[:SITES]], keys("coordinator")
    place, recipe = make_place(sites), {"learner": {"kind": "maml", "rate": 0.1}, "sum": {"kind": "masked"}, "x": None}
    opening = Opening(
        secret("run")[:16], boss.key, tuple(Member(f"site {i}", s.key) for i, s in enumerate(sites)), 0, 0, recipe,
        digest(["commonprior/recipe/1", recipe]), {"target": {"kind": "number"}}, make_prior(0).hash(), "for tests",
        place.encode(),
    )  # fmt: skip
    first, opened = make_record_of(opening, opening_ballot(opening), sites, place)
    run = digest(opening.encode())
    entry = Round(
        1, 1, run, opening.prior, 7, Encoding(SITES, 8, 1000, 2), (0, 1, 2), tuple(map(secret, ("a", "b", "c"))), (),
        digest(bytes(14)), make_prior(1).hash(), "site", 1.5, 1e-5, (), secret("block"),
    )  # fmt: skip
    session = entry.session(opening)
    statement = consistency_statement(session, entry.survivors, entry.commitments)
    agreed = tuple((seat, s.sign(statement)) for seat, s in enumerate(sites))
    entry = dataclasses.replace(entry, consistency=agreed)
    second, ended = make_record_of(entry, round_ballot(run, entry), sites, place)
    opened |= {"family": family_of(opening).hex()}
    ended |= {"session": session.hash.hex(), "consistency statement": statement.hex(), "sum": bytes(14).hex()}
    begin = (family_of(opening), opening.recipe_hash, opening.prior, opening.encode(), Terms(), bytes(20))
    record = (run, entry.attempt, entry.prior, entry.encode())
    for name, told, values, nonce in (("begin", opened, begin, 6), ("record", ended, record, 7)):
        votes = [(s.address, bytes.fromhex(b)) for s, b in zip(sites, told["ballots"], strict=True)]
        data = artefact("Rounds").functions[name].encode((*values, joined(votes)))
        told["transaction"] = (
            Transaction(place.chain, nonce, 0, 0, 16_777_216, place.addresses[3], data).sign(boss).hex()
        )
    return [first, second], opened, ended


def make_public():
    """A contributor's commitment and the mean of three contributors' numbers."""
    deltas = [bytes((i * k + k) % 256 for i in range(288)) for k in (1, 3, 7)]
    accounts = sorted(keys(label).address for label in LABELS[:SITES])
    key = key_of(secret("run"), 5, 2)
    root = merkle.root(deltas[0])
    return {
        "run": secret("run").hex(), "round": 5, "attempt": 2, "key": key.hex(), "base": secret("base").hex(),
        "contributors": [a.hex() for a in accounts], "names": names_of(accounts).hex(),
        "deltas": [d.hex() for d in deltas], "root of the first": root.hex(), "salt": secret("salt").hex(),
        "commitment of the first": commitment(accounts[0], key, secret("base"), root, secret("salt")).hex(),
        "mean": public.mean_of(deltas).hex(),
        "subject of terms 1, 9, 2, 600, 600, 3600, 5 and nobody": subject_of(
            secret("family"), secret("recipe"), Terms(1, 9, 2, 600, 600, 3600, 5), bytes(20)).hex(),
    }  # fmt: skip


def make_refused(records):
    """Journals that look much like the good one; what is said of entries is signed by everyone."""
    sites = [keys(label) for label in LABELS[:SITES]]
    first, second = records
    opening, round_ = (cbor2.loads(r) for r in records)
    entry, place = cbor2.loads(round_["entry"]), make_place(sites)
    run = hashlib.sha256(opening["entry"]).digest()

    def edited(record, **fields):
        return cbor2.dumps({**record, **fields}, canonical=True)

    def second_with(**fields):
        data = cbor2.dumps({**entry, **fields}, canonical=True)
        vote = Ballot(run, 1, entry["attempt"], entry["base"], entry["prior"], digest(data)).digest(place.counter)
        return edited(
            round_, entry=data, signatures=[[i, s.sign(statement_of(data))] for i, s in enumerate(sites)],
            ballots=[[i, s.sign_digest(vote)] for i, s in enumerate(sites)],
        )  # fmt: skip

    one, two, three = round_["ballots"]
    return {name: [record.hex() for record in journal] for name, journal in {
        "a round before the opening": [second],
        "the opening twice": [first, first],
        "a site has not signed the opening": [edited(opening, signatures=opening["signatures"][1:])],
        "the opening without ballots": [edited({k: opening[k] for k in ("entry", "signatures")})],
        "another entry than the sites signed": [first, edited(round_, entry=edited(entry, unit="task"))],
        "a field more": [first, second_with(more=1)],
        "a field less": [first, edited(round_, entry=edited({k: v for k, v in entry.items() if k != "unit"}))],
        "an empty optional field": [first, second_with(draw=[])],
        "True for 1": [first, second_with(version=True)],
        "round 2 after the opening": [first, second_with(round=2)],
        "another base": [first, second_with(base=bytes(32))],
        "another previous entry": [first, second_with(previous=bytes(32))],
        "contributors out of order": [first, second_with(survivors=[0, 2, 1])],
        "other sealed bytes than the sites agreed on": [first, second_with(commitments=[bytes(32)] * 3)],
        "an encoding that runs over": [first, second_with(encoding={**entry["encoding"], "limit": 1 << 14})],
        "two ballots in each other's place": [first, edited(round_, ballots=[[0, two[1]], [1, one[1]], three])],
        "ballots in another order": [first, edited(round_, ballots=[two, one, three])],
        "one ballot of three": [first, edited(round_, ballots=[one])],
        "keys in another order": [cbor2.dumps({k: opening[k] for k in ("signatures", "entry", "ballots")})],
        "bytes after the end": [first, second + b"\0"],
    }.items()}  # fmt: skip


def make():
    """Compute what the file holds."""
    records, opened, ended = make_journal()
    prior = make_prior(1)
    identities = {label: keys(label) for label in LABELS}
    return {
        "keys": {label: {"secret": secret(label).hex(), "key": i.key.hex(), "account": i.address.hex()}
                 for label, i in identities.items()},
        "opening": opened,
        "round": ended,
        "head": ended["hash"],
        "journal": b"".join(len(r).to_bytes(4, "big") + r for r in records).hex(),
        "prior after the round": {
            "tensors": {"params": {"w": {"shape": [2, 3], "values": prior.params["w"].ravel().tolist()},
                                   "bias": {"shape": [0], "values": []}},
                        "state": {"count": {"shape": [], "values": [1.0]}}},
            "bytes": prior.encode().hex(), "hash": prior.hash().hex(),
        },
        "public deltas": make_public(),
        "refused journals": make_refused(records),
    }  # fmt: skip


@pytest.fixture(scope="module")
def vectors():
    return json.loads(FILE.read_text())


def test_the_file_is_what_is_computed(vectors):
    assert vectors == make()


def test_the_primitives_of_others_agree(vectors):
    """cbor2, `cryptography` and coincurve on the file alone."""
    sites = [vectors["keys"][f"site {seat}"] for seat in range(SITES)]
    for part in ("opening", "round"):
        told = {k: v if isinstance(v, list) else bytes.fromhex(v) for k, v in vectors[part].items()}
        assert cbor2.loads(told["record"])["entry"] == told["entry"]
        assert hashlib.sha256(told["entry"]).digest() == told["hash"]
        statement = cbor2.dumps(["commonprior/entry/1", told["entry"]], canonical=True)
        assert hashlib.sha256(statement).digest() == told["statement"]
        for site, signature, ballot in zip(sites, told["signatures"], told["ballots"], strict=True):
            assert ed25519(bytes.fromhex(site["key"]), bytes.fromhex(signature), told["statement"])
            assert signer_of(told["ballot"], bytes.fromhex(ballot)).hex() == site["account"]
        assert read_transaction(told["transaction"])[1].hex() == vectors["keys"]["coordinator"]["account"]
        assert told["entry"] in read_transaction(told["transaction"])[0].data
    assert (
        keccak(bytes.fromhex(vectors["public deltas"]["run"]) + bytes(31) + b"\5" + bytes(31) + b"\2").hex()
        == (vectors["public deltas"]["key"])
    )


REASONS = {
    "a round before the opening": "a round stands before the opening",
    "the opening twice": "opened twice",
    "a site has not signed the opening": "signed by 2 sites, expected 3",
    "the opening without ballots": "0 of 3 members",
    "another entry than the sites signed": "the signature of site 0 does not hold",
    "a field more": "has other fields",
    "a field less": "has other fields",
    "an empty optional field": "has other fields",
    "True for 1": "has other fields",
    "round 2 after the opening": "round 2, attempt 1 follows round 0",
    "another base": "starts from another prior",
    "another previous entry": "does not follow the entry before",
    "contributors out of order": "3 contributors, expected at least 3, rising",
    "other sealed bytes than the sites agreed on": "the signature of site 0 does not hold",
    "an encoding that runs over": "its encoding does not hold the sum of 3 sites",
    "two ballots in each other's place": "the ballot of seat 0 is not its account's",
    "ballots in another order": "ballots of seats",
    "one ballot of three": "1 of 3 members",
    "keys in another order": "the CBOR key at byte",
    "bytes after the end": "bytes go on after",
}
"""What the verifier says of each refused journal."""


def read(folder, records):
    folder.mkdir(exist_ok=True)
    data = [bytes.fromhex(record) for record in records]
    (folder / "journal.cbor").write_bytes(b"".join(len(r).to_bytes(4, "big") + r for r in data))
    journal = verify.Journal(folder, verify.Voters())
    verify.take_all(folder / "journal.cbor", "entry", 0, journal.take)
    return journal


def test_the_verifier_takes_the_good(vectors, tmp_path):
    good = [vectors["opening"]["record"], vectors["round"]["record"]]
    save_prior(make_prior(1), tmp_path / "p")
    assert verify.prior_hash(tmp_path / "p").hex() == vectors["prior after the round"]["hash"]
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums" / "000001.bin").write_bytes(bytes.fromhex(vectors["round"]["sum"]))
    journal = read(tmp_path, good)
    assert (journal.head.hex(), journal.prior.hex()) == (vectors["head"], vectors["prior after the round"]["hash"])
    assert (tmp_path / "journal.cbor").read_bytes().hex() == vectors["journal"]
    assert [r.hex() for r in AppendLog(tmp_path / "journal.cbor")] == good


@pytest.mark.parametrize("name", REASONS)
def test_the_verifier_refuses_the_bad(name, vectors, tmp_path):
    assert vectors["refused journals"].keys() == REASONS.keys()
    with pytest.raises(verify.Refused, match=REASONS[name]):
        read(tmp_path, vectors["refused journals"][name])


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
