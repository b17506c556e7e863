"""The standalone verifier's bytes and curves against other implementations: what they take it takes, and no more.

They are its own; `cryptography`, coincurve, eth-hash, cbor2, rlp and eth-abi are the witnesses.
"""

import hashlib
import json
import re
from pathlib import Path

import cbor2
import numpy as np
import pytest
import rlp
from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from rlp.codec import length_prefix

from commonprior import canonical
from commonprior.ballot import Ballot, Counter
from commonprior.errors import CommonPriorError
from commonprior.identity import signer_of
from commonprior.identity import verify as ed25519
from commonprior.ledger import client, contract, merkle, public, transaction, verify
from ledger._consortium import identity, word

VECTORS = Path(__file__).parents[1] / "vectors"
FEW = settings(max_examples=40, deadline=None)
SITE, OTHER = identity("site"), identity("other")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False) | st.floats(width=16, allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@st.composite
def damaged(draw, data):
    """Some bytes with a bit flipped, cut short, or with one more."""
    at = draw(st.integers(0, len(data) - 1))
    flipped = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return draw(st.sampled_from([flipped, flipped, flipped, data[:at], data + b"\0"]))


def answer(function, *arguments):
    """What a function gives back, or that it refuses."""
    try:
        return repr(function(*arguments))
    except (CommonPriorError, verify.Refused):
        return "refused"


# CBOR


@given(values)
def test_cbor_is_written_as_the_package_writes_it(value):
    data = verify.encode(value)
    assert data == canonical.encode(value)
    assert repr(verify.decode(data)) == repr(canonical.decode(data))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_cbor_is_refused_where_the_package_refuses_it(data):
    bad = data.draw(st.binary(max_size=40) | values.map(canonical.encode).flatmap(damaged)
                    | st.floats().map(lambda x: cbor2.dumps(x)))  # fmt: skip
    assert answer(verify.decode, bad) == answer(canonical.decode, bad)


@pytest.mark.parametrize("data", [
    "1801", "1900ff", "1a0000ffff", "1b00000000ffffffff", "190017", "1a00001000", "1b0000000000000001",
    "9f0102ff", "5f42010243030405ff", "a2616201616101",
    "a2616101616102", "c11a514b67b0", "f97e00", "f97c00", "fb3ff8000000000000", "fa3fc00000", "0101", "a10101", "f7",
    "f820", "e0", "", "61ff", "9bffffffffffffffff01", "81" * 17 + "01", "81" * 18 + "40", "3bffffffffffffffff",
    "d81c80", "fb", "f9", "5affffffff00",
])  # fmt: skip
def test_cbor_that_nobody_writes_is_refused(data):
    with pytest.raises(verify.Refused):
        verify.decode(bytes.fromhex(data))
    assert answer(canonical.decode, bytes.fromhex(data)) == "refused"


@pytest.mark.parametrize("data", ["81" * 17 + "40", "81" * 16 + "01", "f98000", "a0", "f6", "3b7fffffffffffffff"])
def test_cbor_at_the_edge_is_read(data):
    assert answer(verify.decode, bytes.fromhex(data)) == answer(canonical.decode, bytes.fromhex(data)) != "refused"


# Signatures


def test_ed25519_published_vectors():
    """RFC 8032, section 7.1."""
    vectors = json.loads((VECTORS / "primitives.json").read_text())["ed25519"]["signatures"]
    assert len(vectors) >= 3
    for vector in vectors:
        key, message, signature = (bytes.fromhex(vector[k]) for k in ("public", "message", "signature"))
        assert verify.verify_ed25519(key, signature, message)
        assert verify.verify_ed25519(key, signature, message, often=False)
        assert not verify.verify_ed25519(key, signature, message + b"\0")


@FEW
@given(message=st.binary(max_size=80), data=st.data())
def test_ed25519_agrees_with_another_implementation(message, data):
    signature, key = SITE.sign(message), SITE.key
    assert verify.verify_ed25519(key, signature, message)
    signature = data.draw(st.just(signature) | damaged(signature) | st.binary(min_size=64, max_size=64))
    key = data.draw(st.sampled_from([key, OTHER.key]) | damaged(key) | st.binary(min_size=32, max_size=32))
    often = data.draw(st.booleans())
    expected = ed25519(key, signature, message)
    if int.from_bytes(key, "little") & 2**255 - 1 < 2**255 - 19:
        assert verify.verify_ed25519(key, signature, message, often) == expected


def test_ed25519_has_one_signature_and_one_form_of_each_point():
    message = b"once"
    signature, order = SITE.sign(message), 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert not verify.verify_ed25519(SITE.key, signature[:32] + s.to_bytes(32, "little"), message)
    # The identity's signature (R = the identity, s = 0) holds for every message; only its one form is a key.
    one, zero = (1).to_bytes(32, "little"), bytes(32)
    assert verify.verify_ed25519(one, one + zero, message) == ed25519(one, one + zero, message)
    for form in (2**255 - 19 + 1, 1 + 2**255):
        assert not verify.verify_ed25519(form.to_bytes(32, "little"), one + zero, message)
        assert not verify.verify_ed25519(one, form.to_bytes(32, "little") + zero, message)


@given(st.integers(0, 600))
def test_keccak_agrees_with_another_implementation(size):
    data = hashlib.shake_256(bytes([size % 256])).digest(size)
    assert verify.keccak(data) == keccak(data)


@FEW
@given(hashed=st.binary(min_size=32, max_size=32), data=st.data())
def test_accounts_are_recovered_as_another_implementation_recovers_them(hashed, data):
    voters = verify.Voters()
    signature = SITE.sign_digest(hashed)
    assert voters.signer(hashed, signature) == SITE.address
    again = SITE.sign_digest(word("x"))
    assert voters.signer(word("x"), again, SITE.address) == SITE.address  # by its table, now that it is known
    bad = data.draw(damaged(signature) | st.binary(min_size=64, max_size=64).map(lambda b: b + b"\x1b"))
    for expected in (b"", SITE.address, OTHER.address):
        assert voters.signer(hashed, bad, expected) == signer_of(hashed, bad)
        assert verify.Voters().signer(hashed, bad, expected) == signer_of(hashed, bad)


def test_of_two_twin_signatures_one_counts():
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    hashed, voters = word("twin"), verify.Voters()
    good = SITE.sign_digest(hashed)
    assert voters.signer(hashed, good) == SITE.address
    twin = good[:32] + (order - int.from_bytes(good[32:64], "big")).to_bytes(32, "big") + bytes([55 - good[64]])
    for bad in (twin, bytes(65), good[:32] + bytes(32) + good[64:], bytes(32) + good[32:], good[:64] + b"\x1d"):
        for expected in (b"", SITE.address):
            assert voters.signer(hashed, bad, expected) is None
            assert signer_of(hashed, bad) is None
    other = good[:64] + bytes([55 - good[64]])  # the other point with this r: somebody else's
    assert voters.signer(hashed, other, SITE.address) == signer_of(hashed, other) not in (None, SITE.address)
    for text in "abcd":  # of one signature's point, each other text makes another signer
        assert voters.signer(word(text), good, SITE.address) == signer_of(word(text), good) != SITE.address


# Transactions, calls, ballots


def own_reading(raw):
    sent = verify.read_transaction(raw)
    sender = verify.Voters().signer(sent.hashed, sent.signature)
    if sender is None:
        raise verify.Refused
    return sent.chain, sent.nonce, sent.gas, sent.to, sent.data, sender


def witness_reading(raw):
    sent, sender = transaction.read_transaction(raw)
    return sent.chain, sent.nonce, sent.gas, sent.to or b"", sent.data, sender


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.tuples(*[st.integers(0, 2**64)] * 5), to=st.none() | st.binary(min_size=20, max_size=20),
    body=st.binary(max_size=300), data=st.data(),
)  # fmt: skip
def test_transactions_are_read_as_the_package_reads_them(numbers, to, body, data):
    raw = transaction.Transaction(*numbers, to, body).sign(SITE)

    assert answer(own_reading, raw) == answer(witness_reading, raw) != "refused"
    bad = data.draw(damaged(raw) | st.binary(max_size=60).map(lambda b: b"\x02" + b))
    assert answer(own_reading, bad) == answer(witness_reading, bad)


@pytest.mark.parametrize(("nonce", "good"), [
    ("05", True), ("8180", True), ("80", True), ("8105", False), ("820005", False), ("00", False), ("b80105", False),
    ("8205", False), ("c105", False), ("c0", False),
])  # fmt: skip
def test_a_transaction_has_one_form(nonce, good):
    """The second field, in all sorts of RLP."""
    _, _, *rest = rlp.decode(transaction.Transaction(1, 5, 0, 0, 9, bytes(20), b"x").sign(SITE)[1:])
    payload = b"\1" + bytes.fromhex(nonce) + b"".join(rlp.encode(part) for part in rest)
    raw = b"\2" + length_prefix(len(payload), 0xC0) + payload
    assert (answer(own_reading, raw) != "refused") == (answer(witness_reading, raw) != "refused") == good


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 2**32])
def test_addresses_follow_from_who_made_them(nonce):
    assert verify.address_made(SITE.address, nonce) == transaction.address_made(SITE.address, nonce)


def abi_values(kind):
    """Values of an ABI type, as eth-abi takes them."""
    if kind.endswith("[]"):
        return st.lists(abi_values(kind[:-2]), max_size=3)
    if kind.startswith("("):
        return st.tuples(*(abi_values(k) for k in verify._kinds(kind[1:-1])))
    sized = {"bytes32": 32, "address": 20}
    if kind in sized:
        return st.binary(min_size=sized[kind], max_size=sized[kind])
    return st.binary(max_size=70) if kind == "bytes" else st.integers(0, 2**256 - 1)


def plain(value):
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("kinds", [k for n, k in verify._CALLS.items() if n not in ("change", "leave")]
                         + [kinds for _, _, kinds in verify._CODE.values()])  # fmt: skip
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_calls_are_read_as_another_implementation_writes_them(kinds, data):
    split = verify._kinds(kinds)
    given_ = data.draw(st.tuples(*(abi_values(k) for k in split)))
    encoded = abi_encode(split, given_)
    assert verify.arguments(kinds, encoded) == plain(given_)
    for end in range(0, len(encoded) - 31, 32):
        assert answer(verify.arguments, kinds, encoded[:end]) == "refused" or end > len(encoded) - 64


def test_the_tables_of_contracts_and_calls_are_the_artefacts():
    """After `contracts/build.py`, this file run by itself writes the verifier's table of codes anew."""
    assert tuple(verify._CODE) == contract.CONTRACTS
    for name, (size, code, kinds) in verify._CODE.items():
        known = contract.artefact(name)
        assert (size, code) == (len(known.bytecode), hashlib.sha256(known.bytecode).hexdigest())
        assert verify._kinds(kinds) == known._constructor
    for name, kinds in verify._CALLS.items():
        holder = {"settle": "Disputes", "change": "Quorum", "leave": "Quorum"}.get(name, "Rounds")
        known = contract.artefact(holder).functions[name]
        assert (f"{name}({kinds})", known.selector) == (f"{name}({','.join(known.inputs)})",
                                                        keccak(f"{name}({kinds})".encode())[:4])  # fmt: skip


@FEW
@given(
    fields=st.tuples(*[st.binary(min_size=32, max_size=32)] * 5), round_=st.integers(0, 2**64),
    attempt=st.integers(0, 9), scores=st.binary(max_size=300), chain=st.integers(0, 2**64),
)  # fmt: skip
def test_a_ballot_has_the_digest_that_the_contract_counts(fields, round_, attempt, scores, chain):
    run, base, prior, entry_, subject = fields
    expected = Ballot(run, round_, attempt, base, prior, entry_, subject, scores)
    domain = verify.domain_of(chain, SITE.address)
    own = verify.ballot(domain, run, round_, attempt, base, prior, entry_, subject, scores)
    assert own == expected.digest(Counter(chain, SITE.address))


@FEW
@given(count=st.integers(1, 300), words=st.integers(1, 64), seed=st.integers(0, 2**32))
def test_means_and_roots_are_the_contracts(count, words, seed):
    count, rng = min(count, 256 if words < 4 else 20), np.random.default_rng(seed)
    deltas = [rng.integers(-128, 128, 32 * words).astype(np.int8).tobytes() for _ in range(count)]
    assert verify.mean_of(deltas) == public.mean_of(deltas)
    assert verify.merkle_root(deltas[0]) == merkle.root(deltas[0])
    accounts = [word(f"{seed} {i}")[:20] for i in range(count)]
    assert verify.names_of(accounts) == client.names_of(accounts)


if __name__ == "__main__":  # the contracts were compiled anew
    source = Path(verify.__file__)
    text = source.read_text()
    for name in contract.CONTRACTS:
        code = contract.artefact(name).bytecode
        text = re.sub(
            rf'("{name}": \()\d+, "\w{{64}}"', rf'\g<1>{len(code)}, "{hashlib.sha256(code).hexdigest()}"', text
        )
    source.write_text(text)
