"""Attacks on the masked sum, each carried out: it fails against our party and succeeds against a weaker one.

The attacker is the coordinator unless a test says otherwise. What it wants is seat 0's vector.
"""

import copy
import dataclasses
import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.canonical import digest, encode
from commonprior.errors import InputError, ProtocolError
from commonprior.session import COORDINATOR, Session, consistency_statement
from commonprior.sums._keys import draw
from commonprior.sums._masked_party import MaskedParty, Released
from commonprior.sums._masks import add_streams, pair_stream, self_stream
from commonprior.sums._messages import read_packet
from commonprior.sums._packets import open_packet, seal_packet
from commonprior.sums._phases import Reply
from commonprior.sums._shamir import join, weights

VICTIM = 0


def strip(session, words, seed, private, mask_keys):
    """Take every mask off the victim's vector, given its seed and its private mask key."""
    bare = np.frombuffer(words, session.encoding.word).copy()
    streams = [self_stream(session, VICTIM, seed)]
    streams += [pair_stream(session, private, VICTIM, peer, mask_keys) for peer in mask_keys if peer != VICTIM]
    add_streams(bare, [stream._replace(sign=-stream.sign) for stream in streams])
    return session.encoding.from_words(bare)


def unmask_victim(attempt, seed_shares, key_shares):
    """What a coordinator computes that holds a threshold of both kinds of the victim's shares."""
    t = attempt.session.threshold
    seed, private = (join(shares, weights(sorted(shares)[:t])) for shares in (seed_shares, key_shares))
    mask_keys = {seat: attempt.body(frame)["mask"] for seat, frame in attempt.heard["keys"].items()}
    words = attempt.body(attempt.heard["masked"][VICTIM])["words"]
    return strip(attempt.session, words, seed, X25519PrivateKey.from_private_bytes(private), mask_keys)


def survivors_without(attempt, *seats):
    """A consistency request's body over everyone but `seats`."""
    body = attempt.body(attempt.outbox[1], 1)
    kept = [(s, c) for s, c in zip(body["survivors"], body["commitments"]) if s not in seats]
    return {"survivors": [s for s, _ in kept], "commitments": [c for _, c in kept]}


def sign_both_ways(attempt, party, seat):
    """Ask one party to sign for a sum with the victim and for one without; return the bodies of what it signed."""
    out = []
    for body in (survivors_without(attempt), survivors_without(attempt, VICTIM)):
        try:
            ((_, answer),) = party(seat).receive(COORDINATOR, attempt.request("consistency", seat, body)).send
        except ProtocolError:
            out.append(None)
        else:
            out.append(attempt.body(answer)["signature"])
    return out


# One site listed as active and as dropped at once.


def test_attack_a_site_listed_as_active_and_dropped(play):
    attempt = play().until("unmask")
    for body in (
        {"active": [0, 1, 2, 3], "dead": [0]},
        {"signatures": [[s, bytes(64)] for s in range(4)], "dead": [0]},
    ):
        with pytest.raises(ProtocolError):
            attempt.ask(1, attempt.request("unmask", 1, body))
    opened = attempt.body(attempt.ask(1, attempt.outbox[1]))
    assert [seat for seat, _ in opened["seeds"]] == [0, 1, 2, 3]
    assert opened["keys"] == []


def test_attack_a_site_listed_twice_succeeds_where_a_party_believes_the_lists(play, monkeypatch):
    """As in Flower 1.41's SecAgg+: the lists come from the server, unsigned, and may overlap."""

    def believe(self, state, body):
        seeds = [[seat, state.shares[seat].seed] for seat in body["active"]]
        return Released(), Reply({"seeds": seeds, "keys": [[seat, state.shares[seat].key] for seat in body["dead"]]})

    monkeypatch.setattr(MaskedParty, "_release", believe)
    attempt = play().until("unmask")
    answers = {
        s: attempt.body(attempt.ask(s, attempt.request("unmask", s, {"active": [VICTIM], "dead": [VICTIM]})))
        for s in (1, 2, 3)
    }
    got = unmask_victim(
        attempt,
        {s: answer["seeds"][0][1] for s, answer in answers.items()},
        {s: answer["keys"][0][1] for s, answer in answers.items()},
    )
    np.testing.assert_array_equal(got, attempt.vectors[VICTIM])


# Different survivors shown to different parties, or to one party twice.


def split_the_view(attempt, with_victim, without_victim):
    """Show half the parties a sum with the victim, the others one without, and collect both kinds of shares."""
    shares = ({}, {})
    for group, body, kind, held in (
        (with_victim, survivors_without(attempt), "seeds", shares[0]),
        (without_victim, survivors_without(attempt, VICTIM), "keys", shares[1]),
    ):
        answers = {s: attempt.ask(s, attempt.request("consistency", s, body)) for s in group}
        signatures = [[s, attempt.body(answer)["signature"]] for s, answer in answers.items()]
        for s in group:
            opened = attempt.body(attempt.ask(s, attempt.request("unmask", s, {"signatures": signatures})))
            held[s] = dict(map(tuple, opened[kind]))[VICTIM]
    return shares


def test_attack_different_survivors_shown_to_different_parties(play):
    for groups in (([1, 2, 3], [4, 5]), ([1, 2], [3, 4, 5]), ([1], [2, 3, 4, 5])):
        attempt = play(n=6, dropouts=1).until("consistency")
        with pytest.raises(ProtocolError, match=r"\d signatures, expected at least 5"):
            split_the_view(attempt, *groups)


def test_attack_different_survivors_succeeds_where_half_the_sites_are_a_threshold(play, monkeypatch):
    """Sessions refuse this; without 2·threshold > sites + colluders there is room for two agreements."""
    monkeypatch.setattr(Session, "__post_init__", lambda self: None)
    attempt = play(n=7, dropouts=4).until("consistency")
    shares = split_the_view(attempt, [1, 2, 3], [4, 5, 6])
    np.testing.assert_array_equal(unmask_victim(attempt, *shares), attempt.vectors[VICTIM])


def test_attack_two_statements_signed_by_one_party(play):
    attempt = play().until("consistency")
    for seat in (1, 2, 3):
        with_victim, without_victim = sign_both_ways(attempt, attempt.parties.__getitem__, seat)
        assert with_victim is not None
        assert without_victim is None


def test_attack_two_statements_succeeds_where_a_site_is_rolled_back_in_the_middle(play):
    """A site whose memory is restored from a copy signs, and opens, twice: why a restarted site is a dropped one."""
    attempt = play().until("consistency")
    forks = {}

    def fork(seat):
        twin = copy.copy(attempt.parties[seat])
        twin._answered = dict(twin._answered)
        forks.setdefault(seat, []).append(twin)
        return twin

    signatures = {seat: sign_both_ways(attempt, fork, seat) for seat in (1, 2, 3)}
    shares = ({}, {})
    for seat, twins in forks.items():
        for which, kind in enumerate(("seeds", "keys")):
            shown = {"signatures": [[s, both[which]] for s, both in signatures.items()]}
            ((_, answer),) = twins[which].receive(COORDINATOR, attempt.request("unmask", seat, shown)).send
            shares[which][seat] = dict(map(tuple, attempt.body(answer)[kind]))[VICTIM]
    np.testing.assert_array_equal(unmask_victim(attempt, *shares), attempt.vectors[VICTIM])


def test_attack_signatures_that_are_too_few_repeated_or_over_something_else(play):
    attempt = play(n=5).until("unmask")
    true = {s: attempt.body(answer)["signature"] for s, answer in attempt.heard["consistency"].items()}
    for signatures in (
        [],
        [[s, true[s]] for s in (0, 1, 2)],
        [[0, true[0]], [0, true[0]], [1, true[1]], [2, true[2]]],
        [[0, true[0]], [1, true[1]], [2, true[2]], [3, true[4]]],
        [[0, true[0]], [1, true[1]], [2, true[2]], [3, bytes(64)]],
    ):
        with pytest.raises(ProtocolError):
            attempt.ask(1, attempt.request("unmask", 1, {"signatures": signatures}))
    attempt.ask(1, attempt.request("unmask", 1, {"signatures": [[s, true[s]] for s in (0, 2, 3, 4)]}))


def test_attack_a_signature_of_a_site_that_dropped_out_does_not_count(play):
    attempt = play(n=6, dropouts=2).until("masked")
    attempt.hold("masked", absent=[5])
    proposed = attempt.body(attempt.outbox[1], 1)
    attempt.hold("consistency")
    statement = consistency_statement(attempt.session, proposed["survivors"], proposed["commitments"])
    true = attempt.body(attempt.outbox[1], 1)["signatures"]
    stranger = [5, attempt.parties[5]._identity.sign(statement)]
    with pytest.raises(ProtocolError, match=r"signatures of seats \[5\], who are not among the survivors"):
        attempt.ask(1, attempt.request("unmask", 1, {"signatures": [*true[:4], stranger]}))


# What the consistency round refuses.


def test_attack_survivors_without_the_party_itself(play):
    attempt = play(n=5).until("consistency")
    with pytest.raises(ProtocolError, match="seat 1 sent its input and is not among the survivors"):
        attempt.ask(1, attempt.request("consistency", 1, survivors_without(attempt, 1)))


def test_attack_a_swapped_commitment(play):
    attempt = play().until("consistency")
    body = survivors_without(attempt)
    body["commitments"][1], body["commitments"][2] = body["commitments"][2], body["commitments"][1]
    for seat in (1, 2):
        with pytest.raises(ProtocolError, match=f"commitment given for seat {seat} is not to the bytes"):
            attempt.ask(seat, attempt.request("consistency", seat, body))


def test_attack_survivors_below_the_threshold_or_who_never_dealt(play):
    attempt = play(n=5).until("shares")
    attempt.hold("shares", absent=[4])
    attempt.hold("masked")
    with pytest.raises(ProtocolError, match="3 survivors, expected at least 4"):
        attempt.ask(1, attempt.request("consistency", 1, survivors_without(attempt, 0)))
    sybil = survivors_without(attempt)
    sybil = {"survivors": [*sybil["survivors"], 4], "commitments": [*sybil["commitments"], bytes(32)]}
    with pytest.raises(ProtocolError, match=r"survivors \[4\] were not taking part"):
        attempt.ask(1, attempt.request("consistency", 1, sybil))


# The coordinator's own keys in the place of the peers'.


def forge(session, seat, to, body, phase):
    """A frame in a seat's name, with a signature that is nobody's."""
    return encode([encode([session.hash, phase, seat, to, body]), bytes(64)])


def impersonate_everyone(attempt):
    """Stand in for every peer of the victim, and take its masks off with their secrets."""
    session, peers = attempt.session, [s for s in range(len(attempt.session.roster)) if s != VICTIM]
    fakes = {seat: draw(np.random.default_rng(seat).bytes) for seat in peers}
    own = attempt.ask(VICTIM, attempt.outbox[VICTIM])
    frames = [forge(session, s, COORDINATOR, f.public(session, s)._asdict(), "keys") for s, f in fakes.items()]
    dealt = attempt.body(attempt.ask(VICTIM, attempt.request("shares", VICTIM, {"keys": [own, *frames]})))
    shares = {}
    for seat, frame in dealt["packets"]:
        packet = read_packet(attempt.body(frame, seat), 114)
        shares[seat] = open_packet(packet, fakes[seat].channel, session, VICTIM, seat)
    seed = join({s: x.seed for s, x in shares.items()}, weights(peers[: session.threshold]))
    private = join({s: x.key for s, x in shares.items()}, weights(peers[: session.threshold]))
    identity = attempt.coordinator._identity
    channel = attempt.body(own)["channel"]
    packets = [[s, seal_packet(identity, session, s, VICTIM, channel, shares[s])] for s in peers]
    answer = attempt.ask(VICTIM, attempt.request("masked", VICTIM, {"packets": packets}))
    mask_keys = {VICTIM: attempt.body(own)["mask"], **{s: f.public(session, s).mask for s, f in fakes.items()}}
    words = attempt.body(answer)["words"]
    return strip(session, words, seed, X25519PrivateKey.from_private_bytes(private), mask_keys)


def test_attack_key_substitution(play):
    with pytest.raises(ProtocolError, match="seat 1 did not sign it"):
        impersonate_everyone(play().until("keys"))


def test_attack_key_substitution_succeeds_where_signatures_are_not_checked(play, monkeypatch):
    monkeypatch.setattr("commonprior.frame.verify", lambda key, signature, message: True)
    attempt = play().until("keys")
    np.testing.assert_array_equal(impersonate_everyone(attempt), attempt.vectors[VICTIM])


def test_attack_keys_that_do_not_add_up(play):
    attempt = play().until("shares")
    true = attempt.body(attempt.outbox[1], 1)["keys"]
    other = play(attempt=1).until("shares")
    foreign = other.body(other.outbox[1], 1)["keys"]
    low = attempt.answer("keys", 2, {"mask": bytes(32), "channel": b"\x05" * 32, "commitment": bytes(32)})
    copied = attempt.answer("keys", 2, attempt.body(true[0]))
    for keys, why in (
        (true[:2], "2 sites, expected at least 3|keys relayed for seat 1|keys of 2 sites"),
        ([true[0], true[2], true[3]], "not the ones that it announced"),
        ([*true, true[3]], "expected keys: at most 4"),
        ([true[0], true[1], true[1]], "announces keys twice"),
        ([foreign[0], *true[1:]], "frame of session"),
        ([true[0], true[1], low], "no proper point"),
        ([true[0], true[1], copied], "announce the same key"),
        ([true[0], true[1], attempt.answer("shares", 2, attempt.body(true[2]))], "in the place of a site's keys"),
        ([true[0], true[1], b""], "are not CBOR"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(1, attempt.request("shares", 1, {"keys": keys}))
    attempt.ask(1, attempt.outbox[1])


def test_attack_packets_that_do_not_add_up(play):
    attempt = play(n=5).until("masked")
    true = attempt.body(attempt.outbox[1], 1)["packets"]
    mine = attempt.body(attempt.heard["shares"][1])["packets"]
    for packets, why in (
        (true[:2], "shares of 3 sites, expected at least 4"),
        ([[0, true[1][1]], *true[1:]], "in the place of seat 0's packet"),
        ([[0, mine[0][1]], *true[1:]], "is for seat 0, not for seat 1"),
        ([true[0], [1, true[1][1]], *true[2:]], r"packets of seats \[1\], expected only peers"),
        ([true[1], true[0], *true[2:]], "expected them ascending"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(1, attempt.request("masked", 1, {"packets": packets}))
    attempt.ask(1, attempt.outbox[1])


# Frames of another attempt, another round, another prior.


@pytest.mark.parametrize("change", [{"attempt": 1}, {"round": 2}, {"base": b"\x01" * 32}, {"head": b"\x01" * 32}])
@pytest.mark.parametrize("phase", ["keys", "shares", "masked", "consistency", "unmask"])
def test_attack_a_frame_of_another_session(play, change, phase):
    attempt, other = play().until(phase), play(**change).until(phase)
    with pytest.raises(ProtocolError, match=f"{phase} frame of session"):
        attempt.ask(1, other.outbox[1])
    with pytest.raises(ProtocolError, match=f"{phase} frame of session"):
        attempt.coordinator.receive(1, other.ask(1, other.outbox[1]))


def forget(monkeypatch, *fields):
    """Weaken `Session.hash`: leave fields out of it."""

    def loose(self):
        return digest([v if isinstance(v, int | bytes) else str(v) for k, v in vars(self).items() if k not in fields])

    monkeypatch.setattr(Session, "hash", property(loose))


def test_attack_a_replayed_frame_succeeds_where_the_session_forgets_the_attempt(play, monkeypatch):
    forget(monkeypatch, "attempt")
    old, new = play().until("shares"), play(attempt=1).until("shares")
    mixed = [old.body(old.outbox[1], 1)["keys"][0], *new.body(new.outbox[1], 1)["keys"][1:]]
    assert new.ask(1, new.request("shares", 1, {"keys": mixed}))


def sum_over_two_priors(play):
    """Give everyone but the victim a prior whose updates vanish; the victim, and nobody else, has the true one."""
    honest, flat = play(), play(base=b"\x01" * 32)
    for vector in flat.vectors:
        vector[:] = 0
    flat.parties[VICTIM] = honest.parties[VICTIM]
    return flat.finish().value, honest.vectors[VICTIM]


def test_attack_different_base_priors_for_different_sites(play):
    """Model inconsistency (Pasquini et al. 2021, arXiv 2111.07380)."""
    with pytest.raises(ProtocolError, match="frame of session"):
        sum_over_two_priors(play)


def test_attack_different_base_priors_succeeds_where_the_session_forgets_the_prior(play, monkeypatch):
    forget(monkeypatch, "base")
    np.testing.assert_array_equal(*sum_over_two_priors(play))


# Survive one round, drop out in the next.


def survive_then_drop(play, csprng):
    """Take the victim's seed from round 1, where it survives, and its mask key from round 2, where it drops out."""
    first, second = play(play={"csprng": csprng}), play(round=2, play={"csprng": csprng})
    first.until("unmask").hold("unmask")
    for phase in ("start", "keys", "shares"):
        second.hold(phase)
    second.hold("masked", absent=[VICTIM])
    second.hold("consistency")
    second.hold("unmask")
    seeds, keys = (
        {s: dict(map(tuple, attempt.body(frame)[kind]))[VICTIM] for s, frame in attempt.heard["unmask"].items()}
        for attempt, kind in ((first, "seeds"), (second, "keys"))
    )
    return unmask_victim(first, seeds, keys), first.vectors[VICTIM]


def test_attack_survive_then_drop(play):
    got, wanted = survive_then_drop(play, lambda seat: os.urandom)
    assert not (got == wanted).any()


def test_attack_survive_then_drop_succeeds_where_keys_are_used_again(play):
    """A fresh HKDF context a round does not help: the key that it starts from is the one that was opened."""

    def repeating(seat):
        counter = itertools.count()
        return lambda n: (digest([seat, next(counter)]) * 2)[:n]

    np.testing.assert_array_equal(*survive_then_drop(play, repeating))


def test_attack_a_restarted_site_cannot_answer_for_the_attempt_it_had_begun(play):
    attempt, twin = play().until("masked"), play()
    attempt.parties[1] = twin.parties[1]
    with pytest.raises(ProtocolError, match="never takes up an attempt that it did not begin"):
        attempt.ask(1, attempt.outbox[1])
    again = attempt.ask(1, attempt.request("keys", 1, None))
    assert attempt.body(again) != attempt.body(attempt.heard["keys"][1])
    with pytest.raises(ProtocolError, match="not the ones that it announced"):
        attempt.ask(1, attempt.request("shares", 1, {"keys": list(attempt.heard["keys"].values())}))


def test_a_session_whose_threshold_leaves_room_for_two_agreements_is_refused(session):
    with pytest.raises(InputError, match="do not go together"):
        dataclasses.replace(session(), dropouts=2)
