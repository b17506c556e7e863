"""What `work_of` counts, against what real runs do: every operation is counted where it happens, every byte weighed."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

import commonprior.sums
from commonprior import plugin
from commonprior.errors import RecipeError
from commonprior.identity import Identity
from commonprior.sums import CONSISTENCY, _operations
from commonprior.sums._work import work_of
from commonprior.sums.ckks import Ckks
from commonprior.sums.committee import Committee
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.sums.paillier import Paillier
from commonprior.sums.plain import Plain
from commonprior.work import Operation

PACKAGE = "commonprior.sums"


class Through:
    """Stands for an object whose attributes cannot be set: the named methods are counted, the rest passes through."""

    def __init__(self, inside, seen, **methods):
        self._inside, self._seen, self._methods = inside, seen, methods

    def __getattr__(self, name):
        found = getattr(self._inside, name)
        if name not in self._methods:
            return found

        def counted(*arguments):
            key, amount, wrap = self._methods[name]
            self._seen[key] += amount(*arguments)
            result = found(*arguments)
            return wrap(result) if wrap else result

        return counted

    def __call__(self, *arguments):
        return Through(self._inside(*arguments), self._seen, **self._methods)


@pytest.fixture
def done(monkeypatch):
    """A counter of what the primitives of a run do: signatures, checks, agreements, key pairs, seals, AES bytes."""
    seen = Counter()
    one = lambda *arguments: 1  # noqa: E731
    sign = Identity.sign
    monkeypatch.setattr(Identity, "sign", lambda self, m: seen.update(["signed"]) or sign(self, m))
    parts = [f"{PACKAGE}.{part}" for part in ("_consistency", "_fleet_party", "_fleet_coordinator")]
    for module in ("commonprior.frame", *parts):
        check = __import__(module, fromlist=["verify"]).verify
        monkeypatch.setattr(f"{module}.verify", lambda *a, check=check: seen.update(["verified"]) or check(*a))

    def stand(where, name, **methods):
        module = __import__(f"{PACKAGE}.{where}", fromlist=[name])
        monkeypatch.setattr(module, name, Through(getattr(module, name), seen, **methods))

    def stream(cipher):
        return Through(cipher, seen, update_into=("streamed", lambda data, out: len(data), None))

    for where in ("_packets", "_committee_shares"):
        stand(where, "_SUITE", encrypt=("sealed", one, None), decrypt=("unsealed", one, None))
    for where in ("_masks", "_committee_field"):
        stand(where, "Cipher", encryptor=("streams", one, stream))
    stand("_masks", "X25519PublicKey", from_public_bytes=("agreed", one, None))
    for where in ("_keys", "_committee_party"):
        stand(where, "X25519PrivateKey", from_private_bytes=("drawn", one, None))
    return seen


def counts(work):
    """The same amounts as the work has them; expanded elements are 4 bytes of a stream."""
    everyone = {operation.name: amount for operation, amount in work.everyone.items()}

    def of(*names):
        return sum(everyone.get(operation.name, 0) for operation in names)

    elements = sum(amount for name, amount in everyone.items() if name == "element expanded from a seed")
    o = _operations
    return {
        "signed": of(o.FRAME_MADE, o.SIGNATURE), "verified": of(o.FRAME_READ, o.VERIFICATION),
        "sealed": of(o.SEAL), "unsealed": of(o.UNSEAL), "agreed": of(o.AGREEMENT), "drawn": of(o.KEY_PAIR),
        "streamed": of(o.STREAM_BYTES) + 4 * elements,
    }  # fmt: skip


def moved(played):
    """Bytes (up, down) of a finished play, phase by phase."""
    up = {phase: sum(map(len, answers.values())) for phase, answers in played.heard.items()}
    return up, played.asked


def finish(played):
    """Finish a play, keeping the bytes of each request."""
    played.asked = {}
    for phase in played.sum.phases:
        played.asked[phase] = sum(map(len, played.outbox.values()))
        step = played.hold(phase)
    return step.done


CASES = {
    "plain": (Plain(), {"n": 5, "length": 300}),
    "masked": (Masked(), {"n": 5, "length": 300}),
    "masked, 2 bytes": (Masked(), {"n": 9, "length": 1000, "width": 2, "dropouts": 2}),
    "committee of all": (Committee(), {"n": 6, "length": 300, "width": 2}),
    "committee, long": (Committee(), {"n": 5, "length": 20_000, "width": 2, "dropouts": 0}),
    "committee of 5 among 8": (Committee(5, 2), {"n": 8, "length": 300, "width": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_operations_and_bytes_are_those_of_a_real_run(case, play, done):
    kind, changes = CASES[case]
    played = play(play={"sum": kind}, **changes)
    work = work_of(kind, played.session)
    done.clear()
    result = finish(played)
    assert np.array_equal(result.value, sum(played.vectors))
    expected = counts(work)
    assert {name: done[name] for name in expected} == expected
    assert expected["signed"] > 0
    up, down = moved(played)
    for phase in work.phases:
        sent, asked = (sum(role.seats * getattr(role, way) for role in phase.roles) for way in ("up", "down"))
        assert sent == pytest.approx(up[phase.name], rel=0.005), phase.name
        assert asked == pytest.approx(down[phase.name], rel=0.005), phase.name


def test_a_fleet_is_counted_as_its_draw_is_on_average(done):
    from _sums import hold_sum, make_cohort

    cohort = make_cohort(60, 200)
    cohort = dataclasses.replace(cohort, session=dataclasses.replace(cohort.session, dropouts=10))
    work = work_of(Masked(), cohort.session)
    assert any("holders drawn" in operation.name for operation in work.everyone)
    done.clear()
    held = hold_sum(Masked(), cohort)
    expected = counts(work)
    for name in ("signed", "verified", "drawn"):
        assert done[name] == expected[name], name
    assert done["streamed"] == pytest.approx(expected["streamed"], rel=0.03)
    # An agreement between two neighbours serves both directions of packets, a second one the masks.
    assert work.all_up == pytest.approx(sum(len(b) for p in held.up.values() for b in p.values()), rel=0.02)
    assert work.all_down == pytest.approx(sum(sum(p.values()) for p in held.down.values()), rel=0.02)


def test_groups_are_counted_with_their_draw(play, done):
    kind = Grouped(3, Masked(), minimum_cohort=2)
    played = play(play={"sum": kind}, n=12, length=300, dropouts=0)
    work = work_of(kind, played.session)
    done.clear()
    result = finish(played)
    assert np.array_equal(result.value.sum(0), sum(played.vectors))
    expected = counts(work)
    assert {name: done[name] for name in expected} == expected
    up, down = moved(played)
    assert work.all_up == pytest.approx(sum(up.values()), rel=0.005)
    assert work.all_down == pytest.approx(sum(down.values()), rel=0.005)


def test_ciphertexts_of_paillier(play, done, monkeypatch):
    he = pytest.importorskip("commonprior.sums._he_paillier")
    seal, decrypt, read = he.PaillierPublic._seal, he.PaillierPrivateKey.raw_decrypt, he.PaillierSystem.read_public
    monkeypatch.setattr(he.PaillierPublic, "_seal", lambda *a: done.update(["encrypted"]) or seal(*a))
    monkeypatch.setattr(he.PaillierPrivateKey, "raw_decrypt", lambda *a: done.update(["opened"]) or decrypt(*a))
    monkeypatch.setattr(he.PaillierSystem, "read_public", lambda *a: done.update(["read"]) or read(*a))
    kind = Paillier(modulus_bits=2048)
    played = play(play={"sum": kind}, n=3, length=200, dropouts=0)
    work = work_of(kind, played.session)
    done.clear()
    result = finish(played)
    assert np.array_equal(result.value, sum(played.vectors))
    amounts = {operation.name.removeprefix("Paillier-2048 "): amount for operation, amount in work.everyone.items()}
    assert done["encrypted"] == amounts["encryption"] + amounts["opening checked"]
    assert done["opened"] == amounts["decryption, with its root"]
    assert done["read"] == amounts["key read"]
    check_encrypted(work, played, done, 0.005)


def test_ciphertexts_of_ckks(play, done, monkeypatch):
    he = pytest.importorskip("commonprior.sums._he_ckks")
    vector, vector_from, read = he.tenseal.ckks_vector, he.tenseal.ckks_vector_from, he.CkksSystem.read_public
    monkeypatch.setattr(he.tenseal, "ckks_vector", lambda *a, **k: done.update(["encrypted"]) or vector(*a, **k))
    monkeypatch.setattr(he.tenseal, "ckks_vector_from", lambda *a: done.update(["taken"]) or vector_from(*a))
    monkeypatch.setattr(he.CkksSystem, "read_public", lambda *a: done.update(["read"]) or read(*a))
    played = play(play={"sum": Ckks()}, n=3, length=5000, dropouts=0)
    work = work_of(Ckks(), played.session)
    done.clear()
    result = finish(played)
    assert np.array_equal(result.value, sum(played.vectors))
    amounts = {operation.name.removeprefix("CKKS "): amount for operation, amount in work.everyone.items()}
    assert done["encrypted"] == amounts["encryption of 4096 numbers"]
    assert done["taken"] == amounts["ciphertext read"]
    assert done["read"] == amounts["key read"]
    check_encrypted(work, played, done, 0.02)


def check_encrypted(work, played, done, rel):
    expected = counts(work)
    for name in ("signed", "verified"):
        assert done[name] == expected[name], name
    up, down = moved(played)
    assert work.all_up == pytest.approx(sum(up.values()), rel=rel)
    assert work.all_down == pytest.approx(sum(down.values()), rel=rel)


def test_every_sum_says_how_much_work_it_is(session):
    kinds = plugin.kinds(commonprior.sums)
    assert len(kinds) > 4
    made = {"grouped": Grouped(3, Masked())}
    for kind in kinds:
        cls = plugin.load(commonprior.sums, commonprior.sums.SecureSum, kind)
        work = work_of(made[kind] if kind in made else cls(), session(n=12, width=2))
        assert CONSISTENCY in [phase.name for phase in work.phases]
        assert all(isinstance(operation, Operation) for operation in work.everyone)
        assert min(work.everyone.values()) >= 0


def test_a_sum_that_does_not_fit_has_no_work(session):
    with pytest.raises(RecipeError, match="aggregators of threshold"):
        work_of(Committee(5, 3), session(n=8, width=2, dropouts=2))
    with pytest.raises(RecipeError, match="does not say how much work"):
        work_of(type("Stranger", (), {"__module__": "somewhere.stranger"})(), session())
