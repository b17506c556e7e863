"""Whom a site trusts: names and public keys in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from commonprior.appendlog import write_whole
from commonprior.errors import IdentityError


def read_trust(path: Path) -> dict[str, bytes]:
    """Return {name: Ed25519 public key}; nothing where there is no file."""
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text())
        keys = {str(name): bytes.fromhex(key) for name, key in table.items()}
    except (ValueError, AttributeError, TypeError):
        raise IdentityError(f"{path}: not a trust list; expected names with keys of 64 hex digits") from None
    for name, key in keys.items():
        if len(key) != 32:
            raise IdentityError(f"{path}: {name}: a key has 64 hex digits, got {2 * len(key)}")
    return keys


def write_trust(keys: Mapping[str, bytes], path: Path) -> None:
    """Write a trust list."""
    write_whole(path, json.dumps({name: key.hex() for name, key in sorted(keys.items())}, indent=1).encode())
