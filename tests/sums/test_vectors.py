"""The masked sum's bytes, pinned: `tests/vectors/masked_sum.json` is what this file writes when it is run by itself.

Everything is drawn from AES-256 in counter mode under the SHA-256 of a label, so that another implementation can
make the same keys: label "identity N" gives 32 bytes for Ed25519 and 32 for secp256k1, label "site N" the mask
key, the channel key, the seed and the coefficients, in this order. HPKE's own randomness is not pinned, packets are
not in here.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from commonprior.errors import ProtocolError
from commonprior.frame import seal
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Session
from commonprior.sums._masks import add_streams, pair_stream, self_stream
from commonprior.sums._unmask import Secrets
from commonprior.sums.masked import Masked

FILE = Path(__file__).parents[1] / "vectors" / "masked_sum.json"
INTEGERS = [[1, -2, 3, 0, 100_000], [0, 0, 0, 0, 0], [-7, 8, -9, 10, -100_000]]
DROPS = 1


def csprng(label):
    key = hashlib.sha256(label.encode()).digest()
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return lambda n: cipher.update(bytes(n))


def identity(number):
    draw = csprng(f"identity {number}")
    return Identity(
        Ed25519PrivateKey.from_private_bytes(draw(32)),
        ec.derive_private_key(int.from_bytes(draw(32), "big"), ec.SECP256K1()),
    )


def make_session(identities, **changes):
    fields: dict[str, Any] = {
        "run": bytes(16), "round": 3, "attempt": 1, "base": b"\x01" * 32, "recipe": b"\x02" * 32, "head": b"\x03" * 32,
        "coordinator": identities[3].key, "roster": tuple(Member(f"site {s}", identities[s].key) for s in range(3)),
        "dropouts": 1, "colluders": 0, "length": 5, "encoding": Encoding(3, 8, 200_000, 4),
    }  # fmt: skip
    return Session(**{**fields, **changes})


def hold_round(session, identities):
    """Hold a round in which the middle site drops out before its masked input; return its frames and its end."""
    sum_, heard, outbox = Masked(), {}, {}
    step: Any = None
    parties = [
        sum_.party(session, s, identities[s], np.array(x), csprng(f"site {s}"), lambda seats: None)
        for s, x in enumerate(INTEGERS)
    ]
    coordinator = sum_.coordinator(session, identities[3])
    for phase in sum_.phases:
        heard[phase] = {}
        for seat, request in outbox.items():
            if (seat, phase) != (DROPS, "masked"):
                heard[phase][seat] = parties[seat].receive(COORDINATOR, request).send[0][1]
                coordinator.receive(seat, heard[phase][seat])
        step = coordinator.close(phase)
        outbox = dict(step.send)
    return heard, step.done


def expand(stream):
    words = np.zeros(5, "<u4")
    add_streams(words, [stream._replace(sign=1)])
    return words.tobytes().hex()


def refused(session, identities, keys_frame):
    """Requests that seat 0 must refuse once it has announced its keys, and why."""
    other = make_session(identities, attempt=2)
    true = seal(identities[3], session, "shares", COORDINATOR, 0, {"keys": [keys_frame]})
    return {
        "another attempt's": seal(identities[3], other, "shares", COORDINATOR, 0, {"keys": []}),
        "for another seat": seal(identities[3], session, "shares", COORDINATOR, 1, {"keys": []}),
        "signed by a site": seal(identities[1], session, "shares", COORDINATOR, 0, {"keys": []}),
        "too few sites": true,
        "cut short": true[:-1],
        "one bit flipped in the signature": true[:-1] + bytes([true[-1] ^ 1]),
        "out of order": seal(identities[3], session, "unmask", COORDINATOR, 0, {"signatures": []}),
        "an unknown field": seal(identities[3], session, "shares", COORDINATOR, 0, {"keys": [], "more": 1}),
        "not deterministic CBOR": b"\x9f" + true[1:] + b"\xff",
    }


def make():
    """Compute what the file holds."""
    identities = [identity(n) for n in range(4)]
    session = make_session(identities)
    heard, done = hold_round(session, identities)
    secrets = Secrets.decode(done.parts[-1])
    dropped = X25519PrivateKey.from_private_bytes(secrets.dropped[DROPS])
    bad = refused(session, identities, heard["keys"][0])
    return {
        "session": session.hash.hex(),
        "keys frames": [heard["keys"][s].hex() for s in range(3)],
        "dropped seat": DROPS,
        "dropped mask key": secrets.dropped[DROPS].hex(),
        "seeds": {str(s): seed.hex() for s, seed in secrets.seeds.items()},
        "self streams": {str(s): expand(self_stream(session, s, seed)) for s, seed in secrets.seeds.items()},
        "pair streams with the dropped seat": {
            str(s): expand(pair_stream(session, dropped, DROPS, s, secrets.mask_keys)) for s in secrets.seeds
        },
        "integers": INTEGERS,
        "masked vectors": {str(s): words.hex() for s, words in zip(done.survivors, done.parts)},
        "commitments": [c.hex() for c in done.commitments],
        "statement": done.statement.hex(),
        "signatures": {str(s): signature.hex() for s, signature in done.signatures},
        "sum": done.value.tolist(),
        "refused": {why: frame.hex() for why, frame in bad.items()},
    }


@pytest.fixture(scope="module")
def pinned():
    return json.loads(FILE.read_text())


def test_the_bytes_are_the_ones_in_the_file(pinned):
    assert make() == pinned


def test_the_file_adds_up_without_our_code(pinned):
    """Words of the survivors, less their own streams, less what the dropped site's peers added for it."""
    total = np.zeros(5, "<u4")
    for seat, words in pinned["masked vectors"].items():
        total += np.frombuffer(bytes.fromhex(words), "<u4")
        total -= np.frombuffer(bytes.fromhex(pinned["self streams"][seat]), "<u4")
        pair = np.frombuffer(bytes.fromhex(pinned["pair streams with the dropped seat"][seat]), "<u4")
        total = total - pair if int(seat) < pinned["dropped seat"] else total + pair
    assert total.view("<i4").tolist() == pinned["sum"] == np.add(INTEGERS[0], INTEGERS[2]).tolist()


def test_every_bad_request_is_refused(pinned):
    identities = [identity(n) for n in range(4)]
    session = make_session(identities)
    party = Masked().party(session, 0, identities[0], np.array(INTEGERS[0]), csprng("site 0"), lambda seats: None)
    party.receive(COORDINATOR, seal(identities[3], session, "keys", COORDINATOR, 0, None))
    assert len(pinned["refused"]) == 9
    for frame in pinned["refused"].values():
        with pytest.raises(ProtocolError):
            party.receive(COORDINATOR, bytes.fromhex(frame))
    keys = {"keys": [bytes.fromhex(frame) for frame in pinned["keys frames"]]}
    assert party.receive(COORDINATOR, seal(identities[3], session, "shares", COORDINATOR, 0, keys)).send


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
