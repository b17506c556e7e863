import hashlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.canonical import MAX_DEPTH, decode, digest, encode
from commonprior.errors import MalformedMessage

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_decode_is_the_inverse_of_encode(value):
    assert encode(decode(encode(value))) == encode(value)


def test_published_examples():
    """RFC 8949, appendix A, and the key order of section 4.2.1."""
    assert encode([1, [2, 3], [4, 5]]).hex() == "8301820203820405"
    assert encode(1.1).hex() == "fb3ff199999999999a"
    assert encode(1.5).hex() == "f93e00"
    assert encode(-1000).hex() == "3903e7"
    assert encode({"b": 2, "a": 1, "aa": 3}).hex() == "a3616101616202626161" + "03"
    assert digest(b"abc").hex() == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("data", [
    "1801",          # 1 in two bytes
    "9f0102ff",      # an indefinite list
    "5f42010243030405ff",  # indefinite bytes
    "a2616201616101",  # keys out of order
    "a2616101616102",  # a key twice
    "c11a514b67b0",  # a tag (a date)
    "f97e00", "f97c00",  # NaN, infinity
    "fb3ff8000000000000",  # 1.5 as a double
    "0101",          # two items
    "a10101",        # a key that is not text
    "f7",            # undefined
    "f0", "e0", "f8ff", "81f0",  # simple values that mean nothing
    "",
    "9bffffffffffffffff01",  # a list that claims 2^64 items
    "81" * (MAX_DEPTH + 2) + "01",
    "3bffffffffffffffff",  # below -2^63
], ids=str)  # fmt: skip
def test_what_encode_would_not_write_is_refused(data):
    with pytest.raises(MalformedMessage):
        decode(bytes.fromhex(data))


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_canonical(data):
    try:
        value = decode(data)
    except MalformedMessage:
        return
    assert encode(value) == data


@given(VALUES)
def test_an_independent_decoder_reads_the_same(value):
    assert cbor2.loads(encode(value)) == decode(encode(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, object(), {1, 2}, 2**64, "\ud800"])
def test_what_has_no_place_is_not_encoded(value):
    with pytest.raises(MalformedMessage):
        encode(value)


def test_size_limit():
    with pytest.raises(MalformedMessage, match="at most 3 bytes, got 4"):
        decode(encode(b"abc"), limit=3)


def bomb(levels):
    """A list of lists, each ten times the one before by reference: 10^levels items in 35 · levels bytes."""
    nested = [b"\xd8\x1c\x8a" + 10 * (b"\xd8\x1d" + bytes([level])) for level in range(levels)]
    return bytes([0x81 + levels]) + b"\xd8\x1c\x80" + b"".join(nested)


def test_attack_a_few_bytes_that_stand_for_more_items_than_there_is_time_to_look_at():
    """Shared references, which the decoder would follow before any signature is looked at."""
    small: list = cbor2.loads(bomb(3))
    assert len(small[3]) == len(small[3][9]) == len(small[3][9][9]) == 10
    assert len(bomb(14)) < 500
    for levels in (3, 14):
        with pytest.raises(MalformedMessage, match="is a tag or a simple value, or has no definite length"):
            decode(bomb(levels))


@pytest.mark.parametrize(
    "data", [b"\x81" * 10**6 + b"\x01", b"\xa1\x9a\x20" + bytes(3), b"\x9b" + b"\xff" * 8, b"\x5b"]
)
def test_what_claims_more_than_it_brings_is_refused(data):
    with pytest.raises(MalformedMessage):
        decode(data)
