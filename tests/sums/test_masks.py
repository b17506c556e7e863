"""The streams that masks are made of, and the keys that they take. Their primitives: `test_primitives.py`."""

import dataclasses
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from commonprior.errors import InputError, ProtocolError
from commonprior.session import Encoding
from commonprior.sums._keys import SMALL_ORDER, draw, require_sound
from commonprior.sums._masks import BLOCK_BYTES, MaskStream, add_streams, pair_stream, self_stream, to_words
from commonprior.sums._messages import PublicKeys

CURVE = 2**255 - 19


@pytest.mark.parametrize("word", ["<u1", "<u2", "<u4", "<u8"])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_stream_is_aes_256_ctr_from_a_zero_counter_across_blocks(word, extra):
    key, dtype = os.urandom(32), np.dtype(word)
    length = 2 * BLOCK_BYTES // dtype.itemsize + extra
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    expected = np.frombuffer(cipher.update(bytes(length * dtype.itemsize)), dtype)
    for sign in (1, -1):
        words = np.full(length, 7, dtype)
        add_streams(words, [MaskStream(key, sign)])
        np.testing.assert_array_equal(words, (7 + expected) if sign > 0 else (7 - expected))


def test_the_two_ends_of_a_pair_cancel_and_nobody_else_s(session):
    made = session(length=100)
    secrets = {seat: draw(os.urandom) for seat in (0, 1, 2)}
    keys = {seat: s.mask.public_key().public_bytes_raw() for seat, s in secrets.items()}

    def masks(*pairs):
        words = np.zeros(100, np.uint32)
        add_streams(words, [pair_stream(made, secrets[a].mask, a, b, keys) for a, b in pairs])
        return words

    assert not masks((0, 2), (2, 0)).any()
    assert masks((0, 1), (2, 0)).any()
    assert masks((0, 1), (1, 2)).any()


def test_a_stream_is_bound_to_session_seats_and_keys(session):
    made, secret, seed = session(), draw(os.urandom), os.urandom(32)
    keys = {s: draw(os.urandom).mask.public_key().public_bytes_raw() for s in (1, 2)}
    keys[0] = secret.mask.public_key().public_bytes_raw()
    twin = {**keys, 2: keys[1]}
    other = dataclasses.replace(made, attempt=1)
    streams = {
        pair_stream(made, secret.mask, 0, 1, keys).key,
        pair_stream(made, secret.mask, 0, 2, keys).key,
        pair_stream(made, secret.mask, 0, 2, twin).key,
        pair_stream(other, secret.mask, 0, 1, keys).key,
        self_stream(made, 0, seed).key,
        self_stream(made, 1, seed).key,
        self_stream(other, 0, seed).key,
    }
    assert len(streams) == 7


def test_words_of_a_long_vector_equal_the_encoding_s_own():
    encoding = Encoding(3, 0, 40, 1)
    integers = np.random.default_rng(0).integers(-40, 41, BLOCK_BYTES + 5)
    np.testing.assert_array_equal(to_words(integers, encoding), encoding.to_words(integers))
    integers[-1] = 41
    with pytest.raises(InputError, match="41 is over the encoding's limit 40"):
        to_words(integers, encoding)


def keys_of(*points):
    return {s: PublicKeys(mask, channel, bytes(32)) for s, (mask, channel) in enumerate(points)}


def fresh():
    return draw(os.urandom).mask.public_key().public_bytes_raw()


@pytest.mark.parametrize("u", sorted(SMALL_ORDER))
def test_a_point_of_small_order_makes_every_secret_zero_and_is_refused(u):
    point = u.to_bytes(32, "little")
    with pytest.raises(ValueError):
        draw(os.urandom).mask.exchange(X25519PublicKey.from_public_bytes(point))
    with pytest.raises(ProtocolError, match="seat 1 announces a key that is no proper point"):
        require_sound(keys_of((fresh(), fresh()), (fresh(), point)))


@pytest.mark.parametrize("u", [CURVE, CURVE + 9, 2**255 + 9, 2**256 - 1])
def test_a_second_spelling_of_a_point_is_refused(u):
    with pytest.raises(ProtocolError, match="no proper point"):
        require_sound(keys_of((u.to_bytes(32, "little"), fresh())))


def test_a_key_that_comes_twice_is_refused():
    one = fresh()
    for keys in (keys_of((one, fresh()), (fresh(), one)), keys_of((one, one))):
        with pytest.raises(ProtocolError, match="announce the same key"):
            require_sound(keys)


def test_secrets_do_not_show_in_a_printout():
    secrets = draw(os.urandom)
    assert secrets.seed.hex() not in repr(secrets)
    assert "key" not in repr(MaskStream(bytes(32), 1))
