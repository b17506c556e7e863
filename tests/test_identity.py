import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from commonprior.errors import IdentityError
from commonprior.identity import Identity, verify


def test_round_trip_through_a_private_file(tmp_path):
    path = tmp_path / "keys" / "identity.json"
    identity = Identity.generate()
    identity.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load(path).public().key == identity.key
    assert Identity.load(path).public().account == identity.public().account


def test_the_two_keys_sign_each_other():
    mine, other = Identity.generate().public(), Identity.generate().public()
    mine.check()
    for stolen in ({"account": other.account}, {"key": other.key}, {"account_signs_key": other.account_signs_key},
                   {"key_signs_account": other.key_signs_account}, {"key": b"short"}):  # fmt: skip
        with pytest.raises(IdentityError, match="do not sign each other"):
            dataclasses.replace(mine, **stolen).check()


def test_refusals_name_the_file_and_the_cure(tmp_path):
    path = tmp_path / "identity.json"
    with pytest.raises(IdentityError, match="commonprior keys new"):
        Identity.load(path)
    Identity.generate().save(path)
    with pytest.raises(IdentityError, match="already"):
        Identity.generate().save(path)
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        Identity.load(path)
    path.chmod(0o600)
    path.write_text(json.dumps({"ed25519": "zz"}))
    with pytest.raises(IdentityError, match="not an identity file"):
        Identity.load(path)


def test_secrets_are_not_printed(tmp_path):
    identity = Identity.generate()
    identity.save(tmp_path / "i")
    for secret in json.loads((tmp_path / "i").read_text()).values():
        assert secret not in repr(identity)
        assert secret not in str(identity.public())


def test_rfc_8032_vector_2():
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert Ed25519PrivateKey.from_private_bytes(seed).sign(b"\x72") == signature
    assert verify(public, signature, b"\x72")
    assert not verify(public, signature, b"\x73")
    assert not verify(public, signature[:-1], b"\x72")
    assert not verify(b"", signature, b"\x72")
