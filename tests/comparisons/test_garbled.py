"""Two machines that exchange bytes, what each may learn, and what each refuses.

`tests/vectors/garbled.json` is what this file writes when it is run by itself: everything is drawn from AES-256 in
counter mode under the SHA-256 of a label, "identity N" (32 bytes for Ed25519, 32 for secp256k1), "first", "second".
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("nacl.bindings", reason="PyNaCl is not installed: install commonprior[garbled]")

import commonprior.comparisons
from commonprior import plugin
from commonprior.canonical import decode, encode
from commonprior.comparisons import Comparison, Pairing
from commonprior.comparisons._envelope import open_message, seal
from commonprior.comparisons.garbled import GarbledComparison
from commonprior.errors import IdentityError, InputError, PolicyRefusal, ProtocolError, RecipeError
from commonprior.identity import Identity

FILE = Path(__file__).parents[1] / "vectors" / "garbled.json"
SMALL = GarbledComparison(bits=8, fraction=4)


def csprng(label):
    cipher = Cipher(algorithms.AES256(hashlib.sha256(label.encode()).digest()), modes.CTR(bytes(16))).encryptor()
    return lambda n: cipher.update(bytes(n))


def identity(number):
    draw = csprng(f"identity {number}")
    return Identity(
        Ed25519PrivateKey.from_private_bytes(draw(32)),
        ec.derive_private_key(int.from_bytes(draw(32), "big"), ec.SECP256K1()),
    )


ONE, TWO, THREE = (identity(n) for n in range(3))


def pair(count, number=0):
    return Pairing(b"run", number, ONE.key, TWO.key, count)


def machines(x, y, kind=SMALL, number=0, asked=0, draws=(os.urandom, os.urandom)):
    pairing = pair(len(x), number)
    return (
        kind.machine(pairing, "first", ONE, np.asarray(x, float), asked, draws[0]),
        kind.machine(pairing, "second", TWO, np.asarray(y, float), asked, draws[1]),
    )


def play(first, second) -> list[Any]:
    """Exchange messages until both are done; return every step."""
    steps: list[Any] = [first.begin()]
    for machine in (second, first, second, first):
        steps.append(machine.receive(steps[-1].send))
    return steps


def test_both_learn_who_is_lower_and_equal_is_not_lower():
    x, y = [0.5, -1.0, 2.0, 0.0, -7.9375], [0.75, -1.0, 1.0, 0.01, 7.9375]
    steps = play(*machines(x, y))
    assert steps[3].done.tolist() == steps[4].done.tolist() == [True, False, False, False, True]


def test_losses_of_48_bits():
    x, y = np.random.default_rng(0).normal(size=(2, 4)) * 1000
    y[1] = x[1] + 2.0**-31
    steps = play(*machines(x, y, GarbledComparison()))
    assert steps[4].done.tolist() == (x < y).tolist()


def test_the_cap_is_counted_before_anything_is_given_away():
    first, second = machines([1.0, 2.0], [3.0, 4.0], asked=5)
    steps = play(first, second)
    assert [bool(step.persist) for step in steps] == [False, True, True, False, False]
    for step, peer in ((steps[1], ONE), (steps[2], TWO)):
        assert decode(step.persist) == {
            "comparison": "garbled", "pairing": pair(2).hash, "peer": peer.key, "asked": 7,
        }  # fmt: skip


def test_attack_finding_a_number_by_bisection():
    """Without a cap, nine outcomes are an 8-bit number; with one, the machine refuses the question that would do it."""

    def bisect(kind, secret):
        low, high, asked = -8.0, 8.0, 0
        while high - low > 2**-4:
            middle = (low + high) / 2
            steps = play(*machines([secret], [middle], kind, asked, asked))
            record: Any = decode(steps[2].persist)
            asked = record["asked"]
            low, high = (low, middle) if steps[4].done[0] else (middle, high)
        return low

    assert bisect(SMALL, 3.1875) == 3.1875
    with pytest.raises(PolicyRefusal, match="5 comparisons with this peer are answered and 1 more"):
        bisect(GarbledComparison(bits=8, fraction=4, queries=5), 3.1875)


def test_a_repeated_message_gets_the_same_answer_and_no_second_one():
    first, second = machines([1.0], [2.0])
    steps = play(first, second)
    for machine, at in ((second, 0), (first, 1), (second, 2), (first, 3)):
        again = machine.receive(steps[at].send)
        assert again.send == steps[at + 1].send
    other_first, other_second = machines([1.0], [2.0])
    other = play(other_first, other_second)
    for machine, at in ((second, 0), (first, 1), (second, 2), (first, 3)):
        with pytest.raises(ProtocolError):
            machine.receive(other[at].send)


def test_messages_are_fresh_in_every_batch():
    steps = [play(*machines([1.0], [2.0], number=number)) for number in (0, 0, 1)]
    for at in range(4):
        assert len({one[at].send for one in steps}) == 3


def body(step, sender, name) -> Any:
    return open_message(step.send, pair(1), sender, name, 1 << 20)


def test_neither_side_s_number_is_in_its_messages():
    """The labels of the first side's bits do not say which bits they are, and the choices do not either."""
    permute = []
    for _ in range(60):
        first, second = machines([-8.0], [7.9375])
        own = body(play(first, second)[2], "first", "tables")["own"]
        permute.append([own[at] & 1 for at in range(0, len(own), 16)])
    assert 0.3 < np.mean(permute) < 0.7


def test_attack_forging_the_outcome():
    """The second side knows one label an outcome: it cannot tell the first the other one."""
    first, second = machines([1.0], [2.0])
    steps = play(first, second)
    honest = body(steps[3], "second", "outcome")["labels"]
    fresh, other = machines([1.0], [2.0])
    tables = fresh.receive(other.receive(fresh.begin().send).send)
    for forged in (honest, bytes(16), os.urandom(16)):
        with pytest.raises(ProtocolError, match="no evaluation gives"):
            fresh.receive(seal(TWO, pair(1), "outcome", {"labels": forged}))
    np.testing.assert_array_equal(fresh.receive(other.receive(tables.send).send).done, [True])


def test_messages_of_others_and_of_other_batches_are_refused():
    first, second = machines([1.0], [2.0])
    hello: Any = body(first.begin(), "first", "hello")
    for bad in (
        seal(THREE, pair(1), "hello", hello), seal(TWO, pair(1), "hello", hello), seal(ONE, pair(1, 1), "hello", hello),
        seal(ONE, pair(1), "tables", hello), seal(ONE, pair(1), "hello", {**hello, "more": b""}),
        seal(ONE, pair(1), "hello", {**hello, "key": b"\x01" + bytes(31)}), seal(ONE, pair(1), "hello", {}),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            second.receive(bad)
    assert second.receive(first.begin().send).send


def test_what_does_not_fit_is_refused_at_once():
    with pytest.raises(IdentityError, match="is not the second side"):
        SMALL.machine(pair(1), "second", ONE, np.zeros(1), 0, os.urandom)
    for bad, why in (([np.nan], "number 0 is nan"), ([0.0, 8.0], "number 1 is 8.0"), ([-8.1], "from -8 to below 8")):
        with pytest.raises(InputError, match=why):
            machines(bad, bad)
    with pytest.raises(InputError, match="expected 2 float64 numbers"):
        SMALL.machine(pair(2), "first", ONE, np.zeros(3), 0, os.urandom)
    with pytest.raises(InputError, match="cannot compare with itself"):
        Pairing(b"run", 0, ONE.key, ONE.key, 1)
    with pytest.raises(InputError, match="at least 1 comparison"):
        pair(0)
    for bad in ({"bits": 1}, {"bits": 63}, {"fraction": 48}, {"fraction": -1}, {"queries": 0}):
        with pytest.raises(RecipeError):
            GarbledComparison(**bad)


def test_the_folder_lists_its_plug_in_and_says_whom_to_trust():
    assert plugin.kinds(commonprior.comparisons) == ["garbled"]
    kind = plugin.load(commonprior.comparisons, Comparison, "garbled")
    assert kind is GarbledComparison
    assert "follow the protocol" in kind.trust


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.binary(max_size=70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["nonce", "key", "rows"]), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def stages():
    """Machines that wait for each message, and the honest message. Refusals change nothing: they are used again."""
    made = {}
    for at, (sender, key) in enumerate(((0, ONE), (1, TWO), (0, ONE), (1, TWO))):
        both = machines([1.0], [2.0])
        step = both[0].begin()
        for turn in range(at):
            step = both[1 - turn % 2].receive(step.send)
        made[at] = both[1 - sender], step.send, key
    return made


NAMES = ("hello", "choices", "tables", "outcome")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_every_message_that_is_wrong_is_refused(stages, data):
    at = data.draw(st.integers(0, 3))
    machine, frame, key = stages[at]
    side = ("first", "second")[at % 2]
    honest: Any = open_message(frame, pair(1), side, NAMES[at], 1 << 20)
    field = data.draw(st.sampled_from(sorted(honest)))
    value = honest[field]
    cut = data.draw(st.integers(0, len(value) - 1))
    flipped = value[:cut] + bytes([value[cut] ^ data.draw(st.integers(1, 255))]) + value[cut + 1 :]
    bodies = [data.draw(junk), {**honest, field: value[:cut]}, {**honest, field: value + b"\0"},
              {**honest, field: data.draw(junk)}, {k: v for k, v in honest.items() if k != field}]  # fmt: skip
    if at == 3:
        bodies.append({**honest, field: flipped})
    frames = [seal(key, pair(1), NAMES[at], wrong) for wrong in bodies]
    cut = data.draw(st.integers(0, len(frame) - 1))
    frames += [frame[:cut], frame + b"\0", frame[:cut] + bytes([frame[cut] ^ 1]) + frame[cut + 1 :],
               data.draw(st.binary(max_size=50)), encode(data.draw(junk))]  # fmt: skip
    for bad in frames:
        with pytest.raises(ProtocolError):
            machine.receive(bad)


def make():
    """Compute what the file holds: one batch, and messages that must be refused when the first has said hello."""
    first, second = machines([0.5, -3.25, 2.0], [0.75, -3.25, 1.0], number=7, draws=(csprng("first"), csprng("second")))
    steps = play(first, second)
    pairing = pair(3, 7)
    hello: Any = open_message(steps[0].send, pairing, "first", "hello", 1 << 20)
    refused = {
        "another batch's": seal(ONE, pair(3, 8), "hello", hello),
        "signed by the other side": seal(TWO, pairing, "hello", hello),
        "out of order": seal(ONE, pairing, "tables", hello),
        "a point of order one": seal(ONE, pairing, "hello", {**hello, "key": b"\x01" + bytes(31)}),
        "a short nonce": seal(ONE, pairing, "hello", {**hello, "nonce": bytes(31)}),
        "cut short": steps[0].send[:-1],
        "not deterministic CBOR": b"\x9f" + steps[0].send[1:] + b"\xff",
    }
    return {
        "pairing": pairing.hash.hex(),
        "bits": SMALL.bits,
        "fraction": SMALL.fraction,
        "messages": {name: step.send.hex() for name, step in zip(NAMES, steps)},
        "first is lower": steps[4].done.tolist(),
        "refused": {why: frame.hex() for why, frame in refused.items()},
    }


def test_the_bytes_are_the_ones_in_the_file():
    assert make() == json.loads(FILE.read_text())


def test_every_bad_message_in_the_file_is_refused():
    pinned = json.loads(FILE.read_text())
    _, second = machines([0.0] * 3, [0.75, -3.25, 1.0], number=7, draws=(os.urandom, csprng("second")))
    assert len(pinned["refused"]) == 7
    for frame in pinned["refused"].values():
        with pytest.raises(ProtocolError):
            second.receive(bytes.fromhex(frame))
    assert second.receive(bytes.fromhex(pinned["messages"]["hello"])).send.hex() == pinned["messages"]["choices"]


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
