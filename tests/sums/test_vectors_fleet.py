"""The draw of a fleet's graph, pinned: `tests/vectors/fleet_draw.json` is what this file writes when run by itself.

Another implementation needs SHA-256, SHAKE-256 and deterministic CBOR. A site's 32 random bytes are the SHA-256 of
"site N", its keys those of "mask N", "channel N", "commitment N".
"""

import hashlib
import json
from pathlib import Path

import cbor2
import pytest

from commonprior.errors import CommonPriorError
from commonprior.session import Encoding, Member, Session
from commonprior.sums import _fleet_messages as messages
from commonprior.sums._draw import commit_contribution, require_contribution
from commonprior.sums._graph import draw_graph, make_roll, place_of, write_places
from commonprior.sums._messages import PublicKeys

FILE = Path(__file__).parents[1] / "vectors" / "fleet_draw.json"
N, COUNT, SILENT = 9, 4, 5


def secret(label):
    return hashlib.sha256(label.encode()).digest()


def make_session():
    roster = tuple(Member(f"site {s}", secret(f"key {s}")) for s in range(N))
    return Session(
        bytes(16), 3, 1, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, roster, 2, 1, 5,
        Encoding(N, 8, 200_000, 4),
    )  # fmt: skip


def make():
    """Compute what the file holds."""
    session = make_session()
    shown = {s: secret(f"site {s}") for s in range(N) if s != 7}
    committed = {s: commit_contribution(session.hash, s, r) for s, r in shown.items()}
    keys = {s: PublicKeys(*(secret(f"{key} {s}") for key in ("mask", "channel", "commitment"))) for s in shown}
    places = {s: place_of(session, s, keys[s], draw) for s, draw in committed.items()}
    roll = make_roll(session, sorted(places), write_places(places))
    graph = draw_graph(session, roll, {s: r for s, r in shown.items() if s != SILENT}, COUNT)
    signatures = {s: secret(f"signature {s}") + secret(f"and its other half {s}") for s in places}
    body = messages.write_roll(roll, signatures, N)
    return {
        "session": session.hash.hex(),
        "parties": N,
        "holders of a site": COUNT,
        "in the roll, and never reveals": SILENT,
        "contributions": {str(s): r.hex() for s, r in shown.items()},
        "commitments": {str(s): c.hex() for s, c in committed.items()},
        "leaves": {str(s): p.leaf.hex() for s, p in places.items()},
        "roll body": cbor2.dumps(body, canonical=True).hex(),
        "roll hash": roll.hash.hex(),
        "holders": {str(s): [j for j in range(N) if graph.holders[s, j]] for s in graph.dealers},
        "view": graph.view.hex(),
        "refused rolls": {
            "a seat that the roster does not have": cbor2.dumps({**body, "seats": b"\x7f\x03"}, canonical=True).hex(),
            "a place too few": cbor2.dumps({**body, "places": body["places"][64:]}, canonical=True).hex(),
            "a set of seats of three bytes": cbor2.dumps({**body, "seats": b"\x7f\x01\0"}, canonical=True).hex(),
            "an unknown field": cbor2.dumps({**body, "more": 1}, canonical=True).hex(),
            "a signature too few": cbor2.dumps({**body, "signatures": body["signatures"][64:]}, canonical=True).hex(),
            "no seats": cbor2.dumps({k: v for k, v in body.items() if k != "seats"}, canonical=True).hex(),
        },
        "refused contributions": {
            "another site's": [0, committed[0].hex(), shown[1].hex()],
            "for another seat": [1, committed[0].hex(), shown[0].hex()],
            "one bit flipped": [0, committed[0].hex(), bytes([shown[0][0] ^ 1, *shown[0][1:]]).hex()],
            "cut short": [0, committed[0].hex(), shown[0][:-1].hex()],
        },
    }


@pytest.fixture(scope="module")
def pinned():
    return json.loads(FILE.read_text())


def test_the_draw_is_the_one_in_the_file(pinned):
    assert make() == pinned


def test_the_file_is_right_without_our_code(pinned):
    """Holders from the roll's hash and a contribution, by hand: Fisher-Yates on words of SHAKE-256."""
    seats = sorted(map(int, pinned["contributions"]))
    for seat, holders in pinned["holders"].items():
        contribution, tau = bytes.fromhex(pinned["contributions"][seat]), bytes.fromhex(pinned["roll hash"])
        given = ["commonprior/fleet/holders/1", tau, int(seat), contribution]
        seed = hashlib.sha256(cbor2.dumps(given, canonical=True)).digest()
        stream = hashlib.shake_256(b"commonprior/draw/coins/1" + seed + bytes(8)).digest(1024)
        line = [other for other in seats if other != int(seat)]
        for at in range(pinned["holders of a site"]):
            word = int.from_bytes(stream[8 * at : 8 * at + 8], "little")
            assert word < 2**64 // (len(line) - at) * (len(line) - at)
            drawn = at + word % (len(line) - at)
            line[at], line[drawn] = line[drawn], line[at]
        assert sorted(line[: pinned["holders of a site"]]) == holders
    assert any(pinned["in the roll, and never reveals"] in holders for holders in pinned["holders"].values())
    session = bytes.fromhex(pinned["session"])
    for seat, commitment in pinned["commitments"].items():
        shown = bytes.fromhex(pinned["contributions"][seat])
        made = cbor2.dumps(["commonprior/draw/commitment/1", session, int(seat), shown], canonical=True)
        assert hashlib.sha256(made).hexdigest() == commitment


def test_everything_bad_is_refused(pinned):
    session = make_session()
    assert messages.read_roll(cbor2.loads(bytes.fromhex(pinned["roll body"])), N)
    assert len(pinned["refused rolls"]) == 6
    for body in pinned["refused rolls"].values():
        with pytest.raises(CommonPriorError):
            messages.read_roll(cbor2.loads(bytes.fromhex(body)), N)
    assert len(pinned["refused contributions"]) == 4
    for seat, commitment, shown in pinned["refused contributions"].values():
        with pytest.raises(CommonPriorError):
            require_contribution(session.hash, seat, bytes.fromhex(commitment), bytes.fromhex(shown))


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
