"""Hostile bytes at every door: what is not what it should be is refused in one way, by whoever reads it.

The sums' own messages are in tests/sums, those of comparisons in tests/comparisons.
"""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonprior.accountant import Spend, nothing_spent
from commonprior.appendlog import AppendLog, read_records
from commonprior.canonical import MAX_DEPTH, decode, encode
from commonprior.entry import Opening, Round, make_record, read_entry, read_record
from commonprior.errors import CommonPriorError, JournalError, MalformedMessage, ProtocolError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.ledger.journal import Journal
from commonprior.prior import Prior
from commonprior.round import Outcome
from commonprior.session import COORDINATOR, Encoding, Member, Session, read_session

FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
SITES = [Identity.generate() for _ in range(3)]
BOSS = Identity.generate()
ROSTER = tuple(Member(f"site {seat}", site.key) for seat, site in enumerate(SITES))
SESSION = Session(
    b"run", 1, 0, bytes(32), bytes(32), bytes(32), BOSS.key, ROSTER, 1, 0, 4, Encoding(3, 8, 1000, 4)
)  # fmt: skip
PRIOR = Prior({"a": np.ones((2, 3), np.float32), "b": np.zeros(0, np.float32)}, {"m": np.ones(1, np.float32)})
OPENING = Opening(b"run", BOSS.key, ROSTER, 1, 0, {"kind": "x"}, bytes(32), {"columns": 1}, PRIOR.hash(), "a note")
ROUND = Round(
    1, 0, bytes(32), bytes(32), 4, SESSION.encoding, (0, 2), (bytes(32), bytes(32)), ((0, bytes(64)),), bytes(32),
    bytes(32), "task", 1.5, 1e-5,
)  # fmt: skip

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def damaged(draw, value):
    """A value with one thing in it wrong: changed, missing, more, twice, cut or turned over."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        at, copy = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))), value.copy()
        match draw(st.sampled_from(["change", "change", "change", "drop", "more"])):
            case "change":
                copy[at] = draw(damaged(value[at]))
            case "drop":
                del copy[at]
            case "more" if isinstance(copy, list):
                copy.append(copy[at])
            case _:
                copy["more"] = draw(junk)
        return copy
    if isinstance(value, bytes) and value and draw(st.booleans()):
        i = draw(st.integers(0, len(value) - 1))
        return draw(st.sampled_from([value[:i], value + b"\0", value[:i] + bytes([value[i] ^ 1]) + value[i + 1 :]]))
    if type(value) is int and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1, 2**40, -(2**40)]))
    return draw(junk)


READERS = {
    "session": (lambda value: read_session(value), dataclasses.asdict(SESSION)),
    "opening": (lambda value: read_entry(encode(value)), decode(OPENING.encode())),
    "round": (lambda value: read_entry(encode(value)), decode(ROUND.encode())),
    "record": (lambda value: read_record(encode(value)), make_record(ROUND.encode(), ((0, bytes(64)),))),
    "prior": (lambda value: Prior.decode(encode(value)), decode(PRIOR.encode())),
}
READER = pytest.mark.parametrize(("read", "whole"), READERS.values(), ids=READERS)


@READER
def test_what_is_whole_is_read(read, whole):
    assert read(decode(encode(whole)))


@READER
@FUZZ
@given(data=st.data())
def test_what_is_damaged_is_read_as_something_else_or_refused(read, whole, data):
    """No other error than `MalformedMessage`, and no two values that are read as the same."""
    whole = decode(encode(whole))
    bad = data.draw(damaged(whole))
    try:
        got = read(bad)
    except MalformedMessage:
        return
    assert repr(got) != repr(read(whole)) or encode(bad) == encode(whole)


@READER
@FUZZ
@given(value=junk)
def test_junk_is_refused(read, whole, value):
    with pytest.raises(MalformedMessage):
        read(value)


@pytest.mark.parametrize("shape", [[1] * 65, [0] + [2**31 - 1] * 4, [2**31], [-1], [True], ["1"], [2, 2], 3])
def test_a_tensor_of_no_possible_shape_is_refused(shape):
    with pytest.raises(MalformedMessage, match="tensor a"):
        Prior.decode(encode({"params": {"a": [shape, bytes(4)]}, "state": {}}))


@FUZZ
@given(data=st.data())
def test_a_frame_is_its_own_or_none(data):
    """Signed by whoever may, with anything in it: a frame opens as what was signed, or not at all."""
    true = [SESSION.hash, "keys", 1, COORDINATOR, {"a": b"b"}]
    content = data.draw(damaged(true) | st.just(true) | junk)
    signer = data.draw(st.sampled_from([*SITES, BOSS]))
    honest = seal(signer, SESSION, "keys", 1, COORDINATOR, None)
    whole: Any = decode(honest)
    from commonprior.frame import _statement

    encoded = encode(content)
    frame = encode([encoded, signer.sign(_statement(encoded))])
    outer = data.draw(damaged([encoded, whole[1]]))
    for bad in (encode(outer), data.draw(st.binary(max_size=40)), frame[:-1], frame + b"\0"):
        with pytest.raises(ProtocolError):
            open_frame(bad, SESSION, COORDINATOR)
    try:
        opened = open_frame(frame, SESSION, COORDINATOR)
    except ProtocolError:
        assert encoded != encode(true) or signer.key != SITES[1].key  # True == 1 in Python, not on the wire
        return
    assert [SESSION.hash, opened.phase, opened.sender, COORDINATOR, opened.body] == content
    assert SESSION.key_of(opened.sender) == signer.key


def test_a_frame_over_its_limit_is_not_even_decoded():
    frame = seal(SITES[1], SESSION, "keys", 1, COORDINATOR, bytes(5000))
    with pytest.raises(MalformedMessage, match="expected at most 1000 bytes"):
        open_frame(frame, SESSION, COORDINATOR, 1000)
    deep: Any = 0
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(MalformedMessage, match="nested deeper"):
        seal(SITES[1], SESSION, "keys", 1, COORDINATOR, deep)


@FUZZ
@given(data=st.binary(max_size=60))
def test_a_file_of_anything_is_a_log_or_named(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(data)
    try:
        records, whole = read_records(path)
    except JournalError:
        return
    assert sum(4 + len(record) for record in records) == whole <= len(data)


@FUZZ
@given(value=junk)
def test_a_journal_of_anything_is_refused_by_whoever_reads_it(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("journal") / "journal.cbor"
    AppendLog(path).append(value)
    with pytest.raises(JournalError, match=r"journal\.cbor"):
        _ = Journal(path).entries
    with pytest.raises(CommonPriorError):
        _ = Journal(path).head


@FUZZ
@given(data=st.data())
def test_a_spend_that_is_damaged_is_refused_or_another_one(data):
    whole = decode(nothing_spent("task").encode())
    bad = data.draw(damaged(whole) | junk)
    try:
        read = Spend.decode(encode(bad))
    except CommonPriorError:
        return
    assert read.encode() == encode(bad)


# At a site's door and at the coordinator's, in a run.


@pytest.fixture
def begun(make_recipe, run_of):
    """A run of four sites after its first round, with all that the coordinator sent in it, by phase."""
    training = run_of(make_recipe())
    agent, asked = training.agents[0], {}
    carrier = training.engine.engine.engine

    def spy(frame):
        whole: Any = decode(frame)
        content: Any = decode(whole[0])
        asked[content[1]] = content[4]
        return agent.receive(frame)

    training.engine.engine.engine = dataclasses.replace(carrier, endpoints={**carrier.endpoints, 0: spy})
    training.coordinator.step(training.engine)
    training.engine.engine.engine = carrier
    return training, asked


@pytest.mark.parametrize("phase", ["enrol", "invite", "acknowledge", "keys", "anything"])
def test_signed_nonsense_of_a_coordinator_never_stops_a_site(begun, phase):
    training, asked = begun
    coordinator, agent = training.coordinator, training.agents[0]
    session, identity = agent._attempt.session, coordinator._identity
    following = coordinator._session(2, 0, coordinator._journal.opening.run, coordinator._journal.head)
    opening = {"session": dataclasses.asdict(session), "entry": coordinator._journal.opening.encode()}
    body = {
        "enrol": opening, "anything": None, "keys": None, "acknowledge": asked["acknowledge"],
        "invite": {**asked["invite"], "session": dataclasses.asdict(following)},
    }[phase]  # fmt: skip

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def attack(data):
        said = data.draw(damaged(decode(encode(body))) | junk)
        inner = said.get("session") if isinstance(said, dict) else None
        try:
            within = read_session(inner)
        except MalformedMessage:
            within = session
        for answer in agent.receive(seal(identity, within, phase, COORDINATOR, 0, said)):
            opened = open_frame(answer, within, COORDINATOR)
            assert opened.phase in ("refuse", "joined", "signed", phase)

    attack()


def test_bytes_of_anyone_never_stop_a_site(begun):
    training, asked = begun
    agent = training.agents[0]

    @settings(deadline=None, max_examples=60)
    @given(data=st.binary(max_size=80) | junk.map(encode))
    def attack(data):
        assert agent.receive(data) == []

    attack()


JUNK = (None, True, -1, 2**63, b"", b"\x00" * 70, "", "text", [], [[]], {}, {"a": [1]}, [[0, b""]], 1.5)


def turned(rng, value):
    """As `damaged`, by a generator of its own: a round's bytes differ from run to run."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        at, copy = rng.choice(sorted(value) if isinstance(value, dict) else range(len(value))), value.copy()
        copy[at] = turned(rng, value[at])
        return copy
    if isinstance(value, bytes) and value and rng.random() < 0.6:
        i = rng.randrange(len(value))
        return rng.choice([value[:i], value + b"\0", value[:i] + bytes([value[i] ^ 1]) + value[i + 1 :]])
    return rng.choice(JUNK)


@pytest.mark.parametrize("phase", ["invite", "keys", "shares", "masked", "consistency", "unmask", "acknowledge"])
def test_signed_nonsense_of_a_site_never_stops_a_round(make_recipe, run_of, phase):
    """Whatever one site answers, the others' round ends as it would without it, or better."""
    training = run_of(make_recipe(sites=4, dropouts=1, noise=1.0, rounds=20))
    carrier, agent, rng, lied = training.engine.engine.engine, training.agents[2], random.Random(phase), []

    def lie(frame):
        answers = agent.receive(frame)
        asked: Any = decode(decode(frame)[0])  # pyright: ignore
        if asked[1] != phase or not answers or agent._attempt is None:
            return answers
        said: Any = decode(decode(answers[0])[0])  # pyright: ignore
        name = rng.choice([said[1], said[1], said[1], "refuse", "joined", "signed", "x"])
        lied.append(name)
        body = turned(rng, said[4])
        return [seal(agent.identity, agent._attempt.session, name, 2, COORDINATOR, body), rng.randbytes(30)]

    training.engine.engine.engine = dataclasses.replace(carrier, endpoints={**carrier.endpoints, 2: lie})
    for number in range(1, 7):
        outcome = training.coordinator._attempt(training.engine, number)
        assert isinstance(outcome, Outcome) or outcome.culprits
        if isinstance(outcome, Outcome):
            training.coordinator._finish(number, outcome)
            assert {0, 1, 3} <= set(outcome.entry.survivors)
        else:
            break
    assert lied
