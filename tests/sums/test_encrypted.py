"""The protocol that both homomorphic sums share: who may open what, and what a coordinator or a site that lies gets."""

import contextlib
import dataclasses
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.canonical import decode
from commonprior.errors import InputError, MalformedMessage, ProtocolError
from commonprior.frame import seal
from commonprior.session import COORDINATOR
from commonprior.site.policy import Policy
from commonprior.sums import Aborted, Aggregate, Finished
from commonprior.sums._consistency import commit
from commonprior.sums._he_messages import commit_early
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain
from commonprior.training import train_rounds

pytest.importorskip("phe", reason="phe is not installed: install commonprior[he]")
pytest.importorskip("tenseal", reason="tenseal is not installed: install commonprior[he]")

from commonprior.sums import _he_paillier
from commonprior.sums.ckks import Ckks
from commonprior.sums.paillier import Paillier

KINDS = {"paillier": Paillier(2048, "site 2"), "ckks": Ckks("site 2")}
HOLDER = 2
PHASES = Paillier.phases[1:]
FEW = settings(deadline=None, max_examples=8)


@pytest.fixture(autouse=True)
def one_modulus(monkeypatch):
    """Prime numbers are dear: draw one pair and use it again, which only a test may do."""
    monkeypatch.setattr(_he_paillier, "generate_paillier_keypair", lambda n_length: PAIRS[n_length])


PAIRS = {2048: _he_paillier.generate_paillier_keypair(n_length=2048)}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("name", KINDS)
@FEW
@given(data=st.data())
def test_the_sum_is_the_plain_sum_bit_for_bit_whoever_drops_out_when(play, name, data):
    n = data.draw(st.integers(3, 5), "n")
    dropouts = (n - 1) // 2
    others = [seat for seat in range(n) if seat != HOLDER]
    seats = data.draw(st.permutations(others), "seats")[: data.draw(st.integers(0, dropouts), "leaving")]
    leave = {seat: data.draw(st.sampled_from(["committed", "encrypted", "consistency", "open"])) for seat in seats}
    widths = [1, 2, 4, 8] if name == "paillier" else [1, 2, 4]
    same = {"n": n, "length": data.draw(st.integers(1, 300), "d"), "width": data.draw(st.sampled_from(widths), "w")}
    done = play(**same, dropouts=dropouts, play={"sum": KINDS[name]}).finish(leave)
    summed = [seat for seat in range(n) if leave.get(seat) not in ("committed", "encrypted")]
    plain = play(**same, dropouts=dropouts, play={"sum": Plain()}).finish(
        {seat: "values" for seat in range(n) if seat not in summed}
    )
    assert isinstance(done, Aggregate)
    assert done.survivors == tuple(summed)
    assert done.value.dtype == np.int64
    np.testing.assert_array_equal(done.value, plain.value)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_extreme_integers_of_every_party_come_out(play, kind, sign):
    attempt = play(n=3, play={"sum": kind})
    for vector in attempt.vectors:
        vector[:] = sign * attempt.session.encoding.limit
    np.testing.assert_array_equal(attempt.finish().value, sign * 3 * attempt.session.encoding.limit)


def test_a_real_run_ends_with_the_masked_sum_s_prior(make_recipe, run_of, kind):
    kind = dataclasses.replace(kind, key_holder="")
    runs = [run_of(make_recipe(sum=one, policy=Policy(minimum_cohort=3)), type(one).__name__)
            for one in (Masked(), kind)]  # fmt: skip
    for training in runs:
        train_rounds(training)
    assert runs[0].coordinator.prior.hash() == runs[1].coordinator.prior.hash()
    assert runs[1].coordinator.rounds_done == 2


@pytest.mark.parametrize("phase", ["committed", "encrypted"])
def test_without_its_key_holder_an_attempt_ends(play, kind, phase):
    done = play(n=5, dropouts=2, play={"sum": kind}).finish({HOLDER: phase})
    assert done == Aborted(f"{phase}: seat 2 (site 2), which holds the key, did not answer")


@pytest.mark.parametrize("phase", ["key", "open"])
def test_a_key_holder_alone_is_asked_and_missed(play, kind, phase):
    done = play(n=5, dropouts=2, play={"sum": kind}).finish({HOLDER: phase})
    assert done == Aborted(f"{phase}: 0 of 5 sites answered, expected at least 1")


def test_one_dropout_too_many_ends_the_attempt(play, kind):
    done = play(n=4, dropouts=1, play={"sum": kind}).finish({0: "encrypted", 1: "encrypted"})
    assert done == Aborted("encrypted: 2 of 4 sites answered, expected at least 3")


def test_the_guard_sees_the_contributors_before_ciphertexts_and_signatures_leave(play, kind):
    asked = []
    attempt = play(n=4, play={"sum": kind, "guard": lambda seats: asked.append(set(seats))})
    attempt.finish({3: "encrypted"})
    assert asked == [{0, 1, 2, 3}] * 4 + [{0, 1, 2, 3}] * 3 + [{0, 1, 2}] * 3


def test_only_ciphertexts_are_written_down_and_who_has_done_its_part_says_so(play, kind):
    attempt = play(n=3, play={"sum": kind})
    for phase in PHASES:
        attempt.until(phase) if phase == "key" else None
        for seat, request in attempt.outbox.items():
            step = attempt.parties[seat].receive(COORDINATOR, request)
            assert bool(step.persist) == (phase == "encrypted")
            last = "open" if seat == HOLDER else "consistency"
            assert step.done == (Finished((0, 1, 2)) if phase == last else None)
            if step.persist:
                record: Any = decode(step.persist)
                assert record["commitment"] == commit(attempt.body(step.send[0][1])["sealed"])
            assert attempt.parties[seat].receive(COORDINATOR, request) == step
        attempt.hold(phase)


@pytest.mark.parametrize("phase", PHASES)
def test_a_restarted_coordinator_goes_on_from_its_log(play, kind, organiser, phase):
    attempt = play(n=4, play={"sum": kind}).until(phase)
    attempt.coordinator = kind.coordinator(attempt.session, organiser, attempt.log)
    done = attempt.finish(start=phase)
    np.testing.assert_array_equal(done.value, sum(attempt.vectors))


def test_the_update_is_in_no_frame_and_the_key_in_none_but_the_public_one(play, kind):
    first, second = (play(n=3, length=64, play={"sum": kind}).until("consistency") for _ in range(2))
    sealed = [a.body(a.heard["encrypted"][0])["sealed"] for a in (first, second)]
    assert sealed[0] != sealed[1]
    assert first.session.encoding.to_words(first.vectors[0]).tobytes() not in sealed[0]


def test_attack_opening_one_site_s_ciphertext(play, kind):
    """The coordinator asks the key holder for less than what was agreed: one site, or all but one."""
    attempt = play(n=4, play={"sum": kind}).until("open")
    honest = attempt.body(attempt.outbox[HOLDER], HOLDER)
    for kept in ([0], [0, 1, 2], [1, 0, 2, 3], [0, 0, 1, 2, 3]):
        frames = [honest["sealed"][seat] for seat in kept]
        with pytest.raises(ProtocolError):
            attempt.parties[HOLDER].receive(COORDINATOR, attempt.request("open", HOLDER, {**honest, "sealed": frames}))
    few = {**honest, "signatures": honest["signatures"][:2]}
    with pytest.raises(ProtocolError, match="2 signatures, expected at least 3"):
        attempt.parties[HOLDER].receive(COORDINATOR, attempt.request("open", HOLDER, few))
    np.testing.assert_array_equal(attempt.finish(start="open").value, sum(attempt.vectors))


def test_attack_replacing_a_site_s_ciphertext(play, kind, organiser):
    """The coordinator puts vectors that it knows in the others' places: their own signatures are missing."""
    attempt = play(n=4, play={"sum": kind}).until("open")
    honest = attempt.body(attempt.outbox[HOLDER], HOLDER)
    own = attempt.body(attempt.heard["encrypted"][1])
    forged = seal(organiser, attempt.session, "encrypted", 0, COORDINATOR, own)
    with pytest.raises(ProtocolError, match="seat 0 did not sign it"):
        attempt.parties[HOLDER].receive(
            COORDINATOR, attempt.request("open", HOLDER, {**honest, "sealed": [forged, *honest["sealed"][1:]]})
        )


def test_attack_entering_a_multiple_of_another_site_s_update(play, kind):
    """Ciphertexts are malleable: seat 1 sees that of seat 0 and enters it a second time. It is bound already."""
    attempt = play(n=4, play={"sum": kind}).until("encrypted")
    seen = attempt.ask(0, attempt.outbox[0])
    copied = attempt.answer("encrypted", 1, attempt.body(seen))
    with pytest.raises(ProtocolError, match="seat 1 sent other ciphertexts than it had committed to"):
        attempt.coordinator.receive(1, copied)


def test_attack_the_same_with_a_coordinator_that_helps(play, kind):
    """The coordinator lets the copy pass, and everyone signs for it: the key holder checks for itself."""
    attempt = play(n=4, play={"sum": kind}).until("encrypted")
    answers = {seat: attempt.ask(seat, attempt.outbox[seat]) for seat in (0, HOLDER, 3)}
    answers[1] = attempt.answer("encrypted", 1, attempt.body(answers[0]))
    with pytest.raises(ProtocolError, match="seat 1 sent other ciphertexts than it had committed to"):
        attempt.ask(HOLDER, open_request(attempt, answers))


def open_request(attempt, answers):
    """What a coordinator asks the key holder to open, once every seat but 1 has signed for these answers."""
    survivors = sorted(answers)
    ask = {"survivors": survivors, "commitments": [commit(attempt.body(answers[s])["sealed"]) for s in survivors]}
    signed = [[s, attempt.body(attempt.ask(s, attempt.request("consistency", s, ask)))["signature"]]
              for s in survivors if s != 1]  # fmt: skip
    return attempt.request("open", HOLDER, {"signatures": signed, "sealed": [answers[s] for s in survivors]})


def test_a_sum_without_commitments_would_show_the_copied_update(play, kind):
    """What the attack before would have got: the sum with the copy, less the sum that it knows, is the update."""
    attempt = play(n=3, width=2, play={"sum": kind}).until("encrypted")
    held = attempt.parties[HOLDER]._state.held
    sealed = {seat: party._state.sealed for seat, party in enumerate(attempt.parties)}
    key = attempt.parties[HOLDER]._state.key
    copied = {0: sealed[0], 1: sealed[0], 2: sealed[2]}
    opening = held.open_sum(attempt.session, copied, np.random.default_rng(7).bytes)
    total = key.read_opening(attempt.session, copied, opening)
    np.testing.assert_array_equal((total - attempt.vectors[2]) // 2, attempt.vectors[0])


def test_attack_a_commitment_made_after_seeing_ciphertexts(play, kind):
    """The coordinator shows the key holder a list in which a colluding seat 1 has committed to seat 0's ciphertext."""
    attempt = play(n=4, play={"sum": kind}).until("encrypted")
    honest = attempt.outbox
    stolen = attempt.body(attempt.ask(0, honest[0]))["sealed"]
    late = attempt.answer("committed", 1, {"commitment": commit_early(attempt.session, 1, commit(stolen))})
    frames = attempt.body(honest[HOLDER], HOLDER)["commitments"]
    shown = attempt.request("encrypted", HOLDER, {"commitments": [frames[0], late, *frames[2:]]})
    answers = {seat: attempt.ask(seat, honest[seat] if seat != HOLDER else shown) for seat in (0, HOLDER, 3)}
    seen = attempt.body(answers[HOLDER])["seen"]
    answers[1] = attempt.answer("encrypted", 1, {"seen": seen, "sealed": stolen})
    with pytest.raises(ProtocolError, match="seat 0 saw other commitments than seat 2"):
        attempt.ask(HOLDER, open_request(attempt, answers))


def test_attack_another_public_key(play, kind, organiser):
    """The coordinator gives sites a key of its own making."""
    attempt = play(n=4, play={"sum": kind}).until("committed")
    key = attempt.body(attempt.body(attempt.outbox[0], 0)["key"])
    for frame, why in (
        (seal(organiser, attempt.session, "key", HOLDER, COORDINATOR, key), "seat 2 did not sign it"),
        (attempt.answer("key", 1, key), "in the place of the key of seat 2"),
        (attempt.answer("committed", HOLDER, key), "in the place of the key of seat 2"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(0, attempt.request("committed", 0, {"key": frame}))


def test_nobody_but_the_holder_makes_a_key_or_opens(play, kind):
    attempt = play(n=3, play={"sum": kind})
    with pytest.raises(ProtocolError, match="only seat 2 holds a key"):
        attempt.ask(0, attempt.request("key", 0, None))
    attempt.until("open")
    with pytest.raises(ProtocolError, match="open request to seat 0, which is done"):
        attempt.ask(0, attempt.request("open", 0, None))


def test_a_sum_that_no_vectors_could_have_is_refused_and_its_key_holder_named(play, kind):
    attempt = play(n=3, length=3, play={"sum": kind}).until("open")
    opening = attempt.body(attempt.ask(HOLDER, attempt.outbox[HOLDER]))["opening"]
    limit = 3 * attempt.session.encoding.limit
    too_much = np.full(3, limit + 1, np.int64).astype("<u4").tobytes() + opening[12:]
    with pytest.raises(ProtocolError):
        attempt.tell("open", HOLDER, attempt.answer("open", HOLDER, {"opening": too_much}))
    assert attempt.close("open").done == Aborted("open: 0 of 3 sites answered, expected at least 1", (HOLDER,))


def test_numbers_over_the_limit_are_not_sealed(play, kind):
    attempt = play(n=3, width=1, play={"sum": kind}).until("committed")
    attempt.vectors[0][1] = attempt.session.encoding.limit + 1
    with pytest.raises(InputError, match="over the encoding's limit"):
        attempt.ask(0, attempt.outbox[0])


def test_a_key_holder_is_named_or_the_first_of_the_roster(play, kind, session):
    with pytest.raises(InputError, match="'nobody' is not in the roster; expected one of site 0, site 1"):
        play(n=4, play={"sum": dataclasses.replace(kind, key_holder="nobody")})
    attempt = play(n=4, play={"sum": dataclasses.replace(kind, key_holder="site 2")}).until("key")
    assert set(attempt.outbox) == {2}


def test_attack_a_key_holder_drawn_again_attempt_after_attempt(play, kind, session):
    """A draw by anything that a coordinator chooses is one that it repeats: rounds, attempts, heads, runs."""
    weak, held = set(), set()
    for attempt in range(8):
        made = session(attempt=attempt, head=bytes([attempt]) * 32)
        weak.add(int.from_bytes(made.hash, "big") % len(made.roster))
        held |= set(play(made, play={"sum": dataclasses.replace(kind, key_holder="")}).until("key").outbox)
    assert len(weak) > 1
    assert held == {0}


def test_whom_to_trust_is_said(kind):
    assert "key holder" in kind.trust
    assert "could read every update" in kind.trust


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.binary(max_size=70) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["key", "sealed", "seen"]), inner),
    max_leaves=6,
)


@st.composite
def mutated(draw, value):
    """A value with one thing in it wrong."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        at = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else list(range(len(value)))))
        copy = value.copy()
        match draw(st.sampled_from(["change", "change", "drop"])):
            case "change":
                copy[at] = draw(mutated(value[at]))
            case _:
                del copy[at]
        return copy
    if isinstance(value, bytes) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return draw(st.sampled_from([value[:at], value + b"\0", value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]]))
    return draw(junk)


@pytest.fixture(scope="module")
def stages(play):
    """For each kind and phase, an attempt that stands before it. Machines refuse without changing: they are reused."""
    made = {}

    def at(test, name, phase):
        if (test, name, phase) not in made:
            made[test, name, phase] = play(n=3, dropouts=0, length=9, play={"sum": KINDS[name]}).until(phase)
        return made[test, name, phase]

    return at


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_request_that_is_wrong_is_refused_or_harmless(stages, name, data):
    """Properly signed rubbish from the coordinator: a typed refusal, never another exception."""
    phase = data.draw(st.sampled_from(PHASES), "phase")
    attempt = stages("request", name, phase)
    for seat, request in attempt.outbox.items():
        bad = data.draw(mutated(attempt.body(request, seat)))
        if bad == attempt.body(request, seat):
            continue
        harmless = phase == "consistency"  # a site checks its own commitment; the key holder checks the others'
        with contextlib.suppress(ProtocolError) if harmless else pytest.raises(ProtocolError):
            attempt.parties[seat].receive(COORDINATOR, attempt.request(phase, seat, bad))


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_answer_that_is_wrong_is_refused_or_cannot_be_opened(play, stages, name, data):
    """Properly signed rubbish from a site. What only the key can tell from ciphertexts is stopped by who holds it."""
    phase = data.draw(st.sampled_from(["key", "encrypted", "consistency", "open"]), "phase")
    attempt = stages("answer", name, phase)
    seat = HOLDER if phase in ("key", "open") else 0
    honest = attempt.body(attempt.ask(seat, attempt.outbox[seat]))
    bad = data.draw(mutated(honest))
    if bad == honest or (name == "ckks" and phase in ("key", "open")):
        return
    with pytest.raises(ProtocolError):
        attempt.coordinator.receive(seat, attempt.answer(phase, seat, bad))


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_keys_and_ciphertexts_that_are_rubbish_are_refused_by_their_readers(stages, name, data):
    attempt = stages("readers", name, "encrypted")
    state = attempt.parties[HOLDER]._state
    junk_bytes = data.draw(st.binary(max_size=600))
    system = attempt.parties[HOLDER]._cryptosystem
    with pytest.raises(ProtocolError):
        system.read_public(junk_bytes)
    with pytest.raises(MalformedMessage):
        state.key.require_sound(attempt.session, junk_bytes)
    public = attempt.parties[HOLDER]._state.held.public
    cut = data.draw(st.integers(0, len(public) - 1))
    flipped = public[:cut] + bytes([public[cut] ^ data.draw(st.integers(1, 255))]) + public[cut + 1 :]
    with contextlib.suppress(ProtocolError):
        system.read_public(flipped)
    cut = data.draw(st.integers(0, len(state.sealed) - 1))
    flipped = state.sealed[:cut] + bytes([state.sealed[cut] ^ data.draw(st.integers(1, 255))]) + state.sealed[cut + 1 :]
    with contextlib.suppress(ProtocolError):
        state.key.require_sound(attempt.session, flipped)
        held = attempt.parties[HOLDER]._state.held
        opening = held.open_sum(attempt.session, {0: flipped}, os.urandom)
        state.key.read_opening(attempt.session, {0: flipped}, opening)
    for bad in (state.sealed[:cut], state.sealed + b"\0"):
        with pytest.raises(MalformedMessage):
            state.key.require_sound(attempt.session, bad)


def test_an_opening_is_checked_again_from_the_parts(kind, play):
    attempt = play(n=4, dropouts=1, play={"sum": kind})
    done = attempt.finish({3: "encrypted"})
    commitments = dict(zip(done.survivors, done.commitments, strict=True))
    found = kind.recompute(attempt.session, commitments, done.parts)
    if isinstance(kind, Paillier):
        np.testing.assert_array_equal(found, done.value)
    else:
        assert found is None  # only the key holder could tell
    with pytest.raises(ProtocolError, match="the sealed bytes of seat 0 are not those that it committed to"):
        kind.recompute(attempt.session, commitments, (done.parts[1], *done.parts[1:]))
    with pytest.raises(ProtocolError, match="4 parts of an encrypted sum of 3 sites"):
        kind.recompute(attempt.session, commitments, done.parts[1:])


def test_an_opening_of_another_sum_is_found_where_roots_prove_it(play):
    attempt = play(n=4, dropouts=1, play={"sum": KINDS["paillier"]})
    done = attempt.finish()
    *sealed, opening, public = done.parts
    forged = bytes([opening[0] ^ 1]) + opening[1:]
    commitments = dict(zip(done.survivors, done.commitments, strict=True))
    with pytest.raises(ProtocolError, match="the opened sum is not the sum of the sealed vectors"):
        KINDS["paillier"].recompute(attempt.session, commitments, (*sealed, forged, public))
