"""A site's one identity: an Ed25519 key for messages and a secp256k1 key for the ledger, each signing the other.

The pair lives in one file of mode 600. What others hold is the `PublicIdentity`: both public keys and both
cross-signatures, so that nobody can claim another's ledger account.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import coincurve
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_hash.auto import keccak

from commonprior.canonical import digest
from commonprior.errors import IdentityError

_LINK = "commonprior/identity/1"
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Of a signature (r, s) and its twin (r, -s) only the one with the lower s counts (EIP-2)."""


@dataclass(frozen=True)
class PublicIdentity:
    """What others know of a site: `key` (32 bytes, Ed25519), `account` (33 bytes, secp256k1), and both links."""

    key: bytes
    account: bytes
    key_signs_account: bytes
    account_signs_key: bytes

    def check(self) -> None:
        """Raise `IdentityError` unless each key signed the other."""
        statement = digest([_LINK, self.key, self.account])
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(self.key_signs_account, statement)
            account = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), self.account)
            account.verify(self.account_signs_key, statement, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except (InvalidSignature, ValueError):
            raise IdentityError(
                f"identity {self.key.hex()[:16]}…: its two keys do not sign each other; ask its owner for it again"
            ) from None


@dataclass(frozen=True)
class Identity:
    """A site's private keys. Never printed, never logged."""

    _ed25519: Ed25519PrivateKey
    _secp256k1: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Identity({self.key.hex()[:16]}…)"

    @staticmethod
    def generate() -> Identity:
        """Return a fresh identity from the operating system's randomness."""
        return Identity(Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1()))

    @property
    def key(self) -> bytes:
        """The Ed25519 public key, 32 bytes: the name by which others know this site."""
        return self._ed25519.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (64 bytes) of `message`."""
        return self._ed25519.sign(message)

    @property
    def address(self) -> bytes:
        """The ledger account, 20 bytes: the last of the Keccak-256 of the secp256k1 public key."""
        return keccak(self._secp256k1.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:])[12:]

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the ledger account's signature of a digest of 32 bytes: r, s (the lower one) and 27 or 28."""
        secret = self._secp256k1.private_numbers().private_value.to_bytes(32, "big")
        signature = coincurve.PrivateKey(secret).sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([signature[64] + 27])

    def public(self) -> PublicIdentity:
        """Return what others may know."""
        account = self._secp256k1.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        statement = digest([_LINK, self.key, account])
        return PublicIdentity(
            self.key,
            account,
            self.sign(statement),
            self._secp256k1.sign(statement, ec.ECDSA(utils.Prehashed(hashes.SHA256()))),
        )

    def save(self, path: Path) -> None:
        """Write both keys to a new file of mode 600; refuse to overwrite one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        secrets = {
            "ed25519": self._ed25519.private_bytes_raw().hex(),
            "secp256k1": self._secp256k1.private_numbers().private_value.to_bytes(32, "big").hex(),
        }
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise IdentityError(f"{path}: an identity is here already; choose another file or keep this one") from None
        with os.fdopen(handle, "w") as file:
            json.dump(secrets, file)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def load(path: Path) -> Identity:
        """Read what `save` wrote; refuse a file that others can read."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_text()
        except FileNotFoundError:
            raise IdentityError(f"{path}: no identity here; make one with `commonprior keys new {path}`") from None
        if mode & 0o077:
            raise IdentityError(f"{path}: mode {mode:03o} lets others read the keys; run `chmod 600 {path}`")
        try:
            secrets = json.loads(text)
            return Identity(
                Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["ed25519"])),
                ec.derive_private_key(int(secrets["secp256k1"], 16), ec.SECP256K1()),
            )
        except (ValueError, KeyError, TypeError):
            raise IdentityError(f"{path}: not an identity file; restore it from your backup") from None


def signer_of(digest: bytes, signature: bytes) -> bytes | None:
    """Return the account (20 bytes) that signed a digest, or None where the 65 bytes are no signature of anyone's."""
    if len(signature) != 65 or signature[64] not in (27, 28) or int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except Exception:  # coincurve raises plain ones for numbers that are no point
        return None
    return keccak(key.format(compressed=False)[1:])[12:]


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether `signature` is `key`'s Ed25519 signature of `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
