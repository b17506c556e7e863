"""The primitives by their published vectors, and what is sealed by a second implementation of HPKE."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from commonprior.identity import Identity, verify
from commonprior.sums._committee_field import FIELD, expand
from commonprior.sums._masks import MaskStream, add_streams

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "primitives.json").read_text())


def octets(entry, *names):
    return [bytes.fromhex(entry[name]) for name in names]


def multiply(scalar, point):
    return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))


def extract(salt, data):
    return HKDF.extract(hashes.SHA256(), salt or bytes(32), data)


def test_x25519_products():
    for entry in VECTORS["x25519"]["products"]:
        scalar, point, product = octets(entry, "scalar", "point", "product")
        assert multiply(scalar, point) == product


def test_x25519_a_thousand_times():
    scalar = point = bytes.fromhex(VECTORS["x25519"]["iterated"]["start"])
    for turn in range(1, 1001):
        scalar, point = multiply(scalar, point), scalar
        if str(turn) in VECTORS["x25519"]["iterated"]:
            assert scalar.hex() == VECTORS["x25519"]["iterated"][str(turn)]


def test_ed25519_signatures_are_made_and_verified():
    for entry in VECTORS["ed25519"]["signatures"]:
        secret, public, message, signature = octets(entry, "secret", "public", "message", "signature")
        identity = Identity(Ed25519PrivateKey.from_private_bytes(secret), ec.generate_private_key(ec.SECP256K1()))
        assert (identity.key, identity.sign(message)) == (public, signature)
        assert verify(public, signature, message)
        assert not verify(public, signature, message + b"\0")
        assert not verify(public, signature[:-1] + bytes([signature[-1] ^ 1]), message)


@pytest.mark.parametrize("number", range(3))
def test_hkdf(number):
    ikm, salt, info, okm = octets(VECTORS["hkdf-sha256"]["expansions"][number], "ikm", "salt", "info", "okm")
    assert HKDF(hashes.SHA256(), len(okm), salt=salt or None, info=info).derive(ikm) == okm


def test_aes_in_counter_mode():
    counter, plain = octets(VECTORS["aes-ctr"], "counter", "plain")
    for entry in VECTORS["aes-ctr"]["keys"]:
        key, sealed = octets(entry, "key", "cipher")
        assert Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(plain) == sealed


def block_by_block(key, length):
    """AES-256-CTR from a zero counter, out of single blocks: what the vectors above say that the mode is."""
    # ECB of one block is the bare permutation.
    aes = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    return b"".join(aes.update(at.to_bytes(16, "big")) for at in range(-(-length // 16)))[:length]


def test_mask_streams_and_field_elements_are_the_counter_mode_of_the_vectors():
    key = os.urandom(32)
    words = np.zeros(1001, np.uint32)
    add_streams(words, [MaskStream(key, 1)])
    assert words.tobytes() == block_by_block(key, 4004)
    elements = np.frombuffer(block_by_block(key, 4 * 1100), "<u4") & 0x7FFFFFFF
    np.testing.assert_array_equal(expand(key, 1000), elements[elements < FIELD][:1000])


def open_by_hand(secret, sealed, info, aad=b""):
    """RFC 9180, sections 4 and 5, base mode, written out: DHKEM, key schedule, one message."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x01"

    def labelled_extract(id_, salt, label, data):
        return extract(salt, b"HPKE-v1" + id_ + label + data)

    def labelled_expand(id_, key, label, data, length):
        return HKDFExpand(hashes.SHA256(), length, length.to_bytes(2, "big") + b"HPKE-v1" + id_ + label + data).derive(
            key
        )

    enc, sealed = sealed[:32], sealed[32:]
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    shared = labelled_expand(
        kem, labelled_extract(kem, b"", b"eae_prk", multiply(secret, enc)), b"shared_secret", enc + public, 32
    )
    context = (
        b"\0" + labelled_extract(suite, b"", b"psk_id_hash", b"") + labelled_extract(suite, b"", b"info_hash", info)
    )
    prk = labelled_extract(suite, shared, b"secret", b"")
    key, nonce = (labelled_expand(suite, prk, label, context, n) for label, n in ((b"key", 16), (b"base_nonce", 12)))
    return AESGCM(key).decrypt(nonce, sealed, aad)


def test_hpke():
    """The vector of the RFC opens by hand, and what our suite seals opens by hand."""
    info, secret, enc, aad, sealed, plain = octets(
        VECTORS["hpke"], "info", "receiver", "encapsulated", "aad", "cipher", "plain"
    )
    assert open_by_hand(secret, enc + sealed, info, aad) == plain
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    public = X25519PrivateKey.from_private_bytes(secret).public_key()
    assert open_by_hand(secret, suite.encrypt(b"shares", public, info), info) == b"shares"
