import dataclasses

import numpy as np
import pytest

from commonprior.canonical import decode, encode
from commonprior.errors import InputError, MalformedMessage, ProtocolError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.session import COORDINATOR, Encoding, Member, Session, consistency_statement, read_session

KEYS = [Identity.generate() for _ in range(3)]
BOSS = Identity.generate()


def session(**changes):
    fields = {
        "run": b"r", "round": 1, "attempt": 0, "base": bytes(32), "recipe": bytes(32), "head": bytes(32),
        "coordinator": BOSS.key, "roster": tuple(Member(f"s{i}", k.key) for i, k in enumerate(KEYS)), "dropouts": 1,
        "colluders": 0, "length": 4, "encoding": Encoding(3, 8, 1000, 4),
    }  # fmt: skip
    return Session(**{**fields, **changes})


def test_every_field_is_in_the_hash():
    one = session()
    for field, other in {"run": b"x", "round": 2, "attempt": 1, "base": b"b" * 32, "recipe": b"b" * 32,
                         "head": b"b" * 32, "coordinator": KEYS[0].key, "roster": one.roster[::-1], "dropouts": 0,
                         "length": 5, "encoding": Encoding(3, 7, 1000, 4)}.items():  # fmt: skip
        assert session(**{field: other}).hash != one.hash, field
    assert dataclasses.replace(one, dropouts=0, colluders=1).hash != dataclasses.replace(one, dropouts=0).hash


def test_a_session_survives_the_wire_and_nothing_else_does():
    wire = decode(encode(dataclasses.asdict(session())))
    assert read_session(wire) == session()
    for change in ({"round": "1"}, {"round": True}, {"extra": 1}, {"roster": [1]}, {"encoding": {"parties": 3}},
                   {"roster": wire["roster"][:2]}, {"dropouts": 2}, {"base": "x"}):  # fmt: skip
        with pytest.raises(MalformedMessage):
            read_session({**wire, **change})
    with pytest.raises(MalformedMessage):
        read_session({k: v for k, v in wire.items() if k != "round"})


@pytest.mark.parametrize(("n", "dropouts", "colluders", "fits"), [
    (3, 1, 0, True), (3, 1, 1, False), (3, 0, 2, True), (3, 0, 3, False), (10, 4, 1, True), (10, 5, 0, False),
    (2, 0, 0, True), (2, 1, 0, False), (1, 0, 0, False),
])  # fmt: skip
def test_dropouts_and_colluders_must_leave_a_quorum(n, dropouts, colluders, fits):
    """Two sets of t signers share more than the colluders: 2t > n + g."""
    members = tuple(Member(str(i), bytes([i]) * 32) for i in range(n))

    def make():
        return session(roster=members, dropouts=dropouts, colluders=colluders, encoding=Encoding(n, 8, 1000, 4))

    if fits:
        assert make().threshold == n - dropouts
    else:
        with pytest.raises(InputError, match="do not go together"):
            make()


def test_a_name_or_key_stands_in_a_roster_once():
    roster = session().roster
    for twice in ((roster[0], roster[1], Member("s0", bytes(32))), (roster[0], roster[1], Member("x", roster[0].key))):
        with pytest.raises(InputError, match="twice"):
            session(roster=twice)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_the_worst_sum_does_not_wrap_and_one_more_is_refused(width):
    limit = (2 ** (8 * width - 1) - 1) // 3
    encoding = Encoding(3, 0, limit, width)
    extreme = np.array([limit, -limit, 0, 1], np.int64)
    total = np.zeros(4, encoding.word)
    for _ in range(3):
        total += encoding.to_words(extreme)
    assert (encoding.from_words(total) == 3 * extreme).all()
    with pytest.raises(InputError, match="overflow"):
        Encoding(3, 0, limit + 1, width)
    for over in (limit + 1, -limit - 1, -(2**63)):
        with pytest.raises(InputError, match="over the encoding's limit"):
            encoding.to_words(np.array([over], np.int64))


def test_frames_are_bound_to_sender_addressee_session_and_signature():
    here, other = session(), session(attempt=1)
    data = seal(KEYS[0], here, "keys", 0, COORDINATOR, {"a": 1})
    assert open_frame(data, here, COORDINATOR)[:3] == ("keys", 0, {"a": 1})
    for why, call in {
        "of session": lambda: open_frame(data, other, COORDINATOR),
        "is for seat -1": lambda: open_frame(data, here, 1),
        "did not sign": lambda: open_frame(seal(KEYS[1], here, "keys", 0, COORDINATOR, 1), here, COORDINATOR),
        "not in a roster": lambda: open_frame(seal(KEYS[1], here, "keys", 7, COORDINATOR, 1), here, COORDINATOR),
        "truth value": lambda: open_frame(seal(KEYS[1], here, "keys", True, COORDINATOR, 1), here, COORDINATOR),
        "not CBOR": lambda: open_frame(b"\x82\x01", here, COORDINATOR),
        "expected a frame:": lambda: open_frame(encode([1]), here, COORDINATOR),
        "at most 10 bytes": lambda: open_frame(data, here, COORDINATOR, 10),
    }.items():
        with pytest.raises(ProtocolError, match=why):
            call()


def test_a_consistency_statement_names_session_survivors_and_bytes():
    base = consistency_statement(session(), (0, 1), (b"a", b"b"))
    others = [(session(attempt=1), (0, 1), (b"a", b"b")), (session(), (0, 2), (b"a", b"b")),
              (session(), (0, 1), (b"a", b"c"))]  # fmt: skip
    assert base not in {consistency_statement(*o) for o in others}
