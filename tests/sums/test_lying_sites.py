"""Sites that lie to an honest coordinator: the sum is right without them, or the attempt ends and names them."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from commonprior.canonical import digest
from commonprior.errors import ProtocolError
from commonprior.frame import seal
from commonprior.session import COORDINATOR
from commonprior.sums import Aggregate, _masked_party, _packets

VICTIM = 0


def test_attack_equivocation_names_the_site(play):
    attempt = play().until("masked")
    body = attempt.body(attempt.ask(2, attempt.outbox[2]))
    for words in (body["words"], bytes(len(body["words"]))):
        step = attempt.tell("masked", 2, attempt.answer("masked", 2, {**body, "words": words}))
    assert step.done.culprits == (2,)
    assert "seat 2 (site 2) signed two different answers" in step.done.reason
    assert attempt.coordinator.close("masked").done == step.done


def test_attack_a_site_that_comes_back_with_other_keys_is_named(play):
    attempt, twin = play().until("keys"), play().until("keys")
    attempt.tell("keys", 1, attempt.ask(1, attempt.outbox[1]))
    step = attempt.tell("keys", 1, twin.ask(1, twin.outbox[1]))
    assert step.done.culprits == (1,)


def lie_about(attempt, liar, kind="seeds"):
    """The liar's unmask answer with another share of seat 0 in it."""
    body = attempt.body(attempt.ask(liar, attempt.outbox[liar]))
    body[kind] = [[seat, share if seat else b"\x01" * 33] for seat, share in body[kind]]
    return attempt.answer("unmask", liar, body)


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_attack_a_wrong_share_is_named_and_the_sum_is_right_without_it(play, kind):
    attempt = play(n=6, dropouts=2)
    for phase in ("start", "keys", "shares"):
        attempt.hold(phase)
    attempt.hold("masked", absent=[VICTIM] if kind == "keys" else [])
    attempt.hold("consistency")
    with pytest.raises(ProtocolError, match=f"seat 3 released a {kind[:-1]} share of seat 0 that was not dealt to it"):
        attempt.tell("unmask", 3, lie_about(attempt, 3, kind))
    done = attempt.hold("unmask", absent=[3]).done
    np.testing.assert_array_equal(done.value, sum(attempt.vectors[s] for s in done.survivors))


def test_attack_wrong_shares_that_leave_too_few_name_every_liar(play):
    attempt = play(n=6, dropouts=2).until("unmask")
    for liar in (1, 2, 5):
        with pytest.raises(ProtocolError):
            attempt.tell("unmask", liar, lie_about(attempt, liar))
    done = attempt.hold("unmask", absent=[1, 2, 5]).done
    assert done.culprits == (1, 2, 5)


def test_attack_a_share_of_one_s_own_seed_is_checked_too(play):
    attempt = play().until("unmask")
    with pytest.raises(ProtocolError, match="seat 0 released a seed share of seat 0"):
        attempt.tell("unmask", 0, lie_about(attempt, 0))


@pytest.mark.parametrize("leave", [{}, {1: "masked"}])
def test_attack_a_dealer_whose_shares_give_another_secret_is_named(play, monkeypatch, leave):
    true = _masked_party.split
    attempt = play(n=5).until("shares")
    for seat in range(5):
        with monkeypatch.context() as patch:
            if seat == 1:
                patch.setattr(_masked_party, "split", lambda secret, *rest: true(bytes(32), *rest))
            attempt.tell("shares", seat, attempt.ask(seat, attempt.outbox[seat]))
    attempt.close("shares")
    done = attempt.finish(leave, start="masked")
    assert done.culprits == (1,)
    assert "the shares that seat 1 dealt do not give the secret" in done.reason


def deal_rubbish(attempt, dealer, receivers):
    """Hold the shares phase with a dealer that seals other shares for `receivers` than it commits to."""
    for seat, request in attempt.outbox.items():
        answer = attempt.ask(seat, request)
        if seat == dealer:
            dealing = attempt.body(answer)
            packets = dict(map(tuple, dealing["packets"]))
            for receiver in receivers:
                packet = attempt.body(packets[receiver], receiver)
                channel = attempt.body(attempt.heard["keys"][receiver])["channel"]
                info = _packets._info(attempt.session, dealer, receiver)
                packet["sealed"] = _packets._SUITE.encrypt(bytes(66), X25519PublicKey.from_public_bytes(channel), info)
                packets[receiver] = seal(
                    attempt.parties[dealer]._identity, attempt.session, "packet", dealer, receiver, packet
                )
            answer = attempt.answer(
                "shares", dealer, {**dealing, "packets": [[s, packets[s]] for s in sorted(packets)]}
            )
        attempt.tell("shares", seat, answer)
    attempt.close("shares")


def test_attack_a_packet_of_rubbish_for_few_changes_nothing(play):
    attempt = play(n=5).until("shares")
    deal_rubbish(attempt, dealer=1, receivers=[3])
    done = attempt.finish(start="masked")
    np.testing.assert_array_equal(done.value, sum(attempt.vectors))


def test_attack_packets_of_rubbish_for_many_are_said_to_come_from_the_dealer(play):
    attempt = play(n=5).until("shares")
    deal_rubbish(attempt, dealer=1, receivers=[0, 3])
    done = attempt.finish(start="masked")
    assert not isinstance(done, Aggregate)
    assert "seats [0, 3] say that the packets of seat 1 do not open" in done.reason
    assert done.culprits == ()


def test_attack_a_dealer_that_leaves_a_peer_out_or_deals_to_itself(play):
    attempt = play().until("shares")
    body = attempt.body(attempt.ask(1, attempt.outbox[1]))
    packets = body["packets"]
    for wrong in (packets[:2], [], [packets[0], [1, packets[0][1]], *packets[1:]]):
        with pytest.raises(ProtocolError, match=r"seat 1 dealt to seats \[.*\], expected its peers \[0, 2, 3\]"):
            attempt.tell("shares", 1, attempt.answer("shares", 1, {**body, "packets": wrong}))
    misdirected = [[0, packets[1][1]], *packets[1:]]
    with pytest.raises(ProtocolError, match="packet frame is for seat 2, not for seat 0"):
        attempt.tell("shares", 1, attempt.answer("shares", 1, {**body, "packets": misdirected}))


def test_attack_an_opening_of_the_wrong_secrets(play):
    attempt = play(n=5).until("masked")
    attempt.hold("masked", absent=[4])
    attempt.hold("consistency")
    body = attempt.body(attempt.ask(1, attempt.outbox[1]))
    for wrong in (
        {"seeds": body["seeds"][:-1]},
        {"keys": []},
        {"seeds": [*body["seeds"], body["keys"][0]]},
        {"keys": [body["seeds"][0], *body["keys"]]},
        {"seeds": body["keys"], "keys": body["seeds"]},
    ):
        with pytest.raises(ProtocolError, match=r"seat 1 opened seeds of .* expected \[0, 1, 2, 3\] and \[4\]"):
            attempt.tell("unmask", 1, attempt.answer("unmask", 1, {**body, **wrong}))


def test_attack_a_masked_input_for_other_peers_than_everyone_s(play):
    attempt = play().until("masked")
    body = attempt.body(attempt.ask(1, attempt.outbox[1]))
    with pytest.raises(ProtocolError, match=r"seat 1 masked for seats \[0, 1, 2\], expected \[0, 1, 2, 3\]"):
        attempt.tell("masked", 1, attempt.answer("masked", 1, {**body, "peers": [0, 1, 2]}))


def test_attack_a_signature_over_another_statement_does_not_count(play):
    attempt = play().until("consistency")
    signature = attempt.parties[1]._identity.sign(digest(b"something else"))
    with pytest.raises(ProtocolError, match="seat 1 did not sign the statement"):
        attempt.tell("consistency", 1, attempt.answer("consistency", 1, {"signature": signature}))


def test_attack_an_answer_in_another_s_name(play):
    attempt = play().until("keys")
    with pytest.raises(ProtocolError, match="signed by seat 1, brought by seat 2"):
        attempt.coordinator.receive(2, attempt.ask(1, attempt.outbox[1]))
    forged = seal(attempt.parties[1]._identity, attempt.session, "keys", 3, COORDINATOR, None)
    with pytest.raises(ProtocolError, match="seat 3 did not sign it"):
        attempt.coordinator.receive(3, forged)


def test_attack_an_answer_nobody_asked_for(play):
    attempt = play(n=5)
    for phase in ("start", "keys"):
        attempt.hold(phase)
    attempt.hold("shares", absent=[4])
    with pytest.raises(ProtocolError, match="masked answer of seat 4 was not asked for"):
        attempt.coordinator.receive(4, attempt.answer("masked", 4, {"peers": [], "words": b""}))
    with pytest.raises(ProtocolError, match="unmask answer of seat 1 was not asked for; masked is open"):
        attempt.coordinator.receive(1, attempt.answer("unmask", 1, {"seeds": [], "keys": []}))
    with pytest.raises(ProtocolError, match="is no phase of this sum"):
        attempt.coordinator.receive(1, attempt.answer("start", 1, None))


def test_attack_keys_the_coordinator_must_not_relay(play):
    attempt = play().until("keys")
    body = attempt.body(attempt.ask(0, attempt.outbox[0]))
    attempt.tell("keys", 0, attempt.ask(0, attempt.outbox[0]))
    for change, why in (
        ({}, "seats 0 and 1 announce the same key"),
        ({"mask": bytes(32)}, "same key|no proper point"),
        ({"mask": b"\x07" * 31}, "mask key of 31 bytes, expected 32"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.tell("keys", 1, attempt.answer("keys", 1, {**body, **change}))
