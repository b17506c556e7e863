"""Attacks on what the sites of a fleet agree on, each carried out: against ours, and against a weaker one.

The attacker is the coordinator, with the sites that a test calls colluders. What it wants is seat 0's vector.
"""

import copy
import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from commonprior.errors import ProtocolError
from commonprior.identity import verify
from commonprior.session import COORDINATOR, consistency_statement
from commonprior.sums import Aggregate, _fleet_party
from commonprior.sums._consistency import Agreement, sign
from commonprior.sums._fleet_messages import (
    read_announcement,
    read_proposal,
    write_proposal,
    write_signatures,
)
from commonprior.sums._fleet_packets import commit_words
from commonprior.sums._fleet_party import FleetParty, Released
from commonprior.sums._masks import add_streams, pair_stream, self_stream
from commonprior.sums._phases import Reply
from commonprior.sums._shamir import join, weights

VICTIM = 0


def graph_of(attempt):
    return attempt.coordinator._graph


# One site as active and as dropped; different survivors for different neighbourhoods.


def propose(attempt, survivors):
    """The consistency requests that an honest coordinator would send for these survivors."""
    masked, graph = attempt.coordinator._masked, graph_of(attempt)
    hashes = {s: masked[s].hash for s in survivors}
    return {
        seat: attempt.request("consistency", seat, write_proposal(
            hashes, 12, [masked[p].vouches[seat] for p in graph.neighbours_of(seat) if p in hashes]))
        for seat in survivors
    }  # fmt: skip


def collect(attempt, group, survivors, forks=()):
    """Have a group sign a survivor set, then open with these signatures; colluders answer from a copy of themselves."""
    parties = {s: copy.copy(attempt.parties[s]) if s in forks else attempt.parties[s] for s in group}
    for party in parties.values():
        party._answered = dict(party._answered)
    requests, signatures = propose(attempt, survivors), {}
    for s, party in parties.items():
        ((_, answer),) = party.receive(COORDINATOR, requests[s]).send
        signatures[s] = attempt.body(answer)["signature"]
    opened = {}
    for s in forks:
        held = {owner: shares for owner, shares in parties.pop(s)._state.shares.items() if shares}
        opened[s] = {kind: [[o, getattr(x, kind[:-1])] for o, x in held.items()] for kind in ("seeds", "keys")}
    for s, party in parties.items():
        shown = signatures | {o: bytes(64) for o in survivors if o not in signatures}
        shown = dict(itertools.islice(shown.items(), attempt.session.threshold))
        request = attempt.request("unmask", s, write_signatures(shown, 12))
        try:
            ((_, answer),) = party.receive(COORDINATOR, request).send
        except ProtocolError:
            continue
        opened[s] = attempt.body(answer)
    return opened


def split_near(graph, honest, order):
    """Two halves that both hold half of the victim's holders and three holders of each of those, or None."""
    rest = [s for s in order.tolist() if s not in honest and s != VICTIM]
    halves = {*honest[:2], *rest[::2], VICTIM, 11}, {*honest[2:], *rest[1::2], 11}
    near = (len({*graph.holders_of(s)} & half) >= 3 for half in halves for s in honest if s in half)
    return halves if all(near) else None


def split_the_fleet(fleet):
    """Show one half of the fleet a sum with the victim and the other half one without, the colluder both.

    Returns the victim's shares of both kinds, and what it takes to open it with them.
    """
    everyone, without = range(12), range(1, 12)
    for rng in map(np.random.default_rng, range(400)):
        attempt = fleet(terms=(5, 3, 10)).until("masked")
        holders = graph_of(attempt).holders_of(VICTIM)
        honest = [s for s in holders if s != 11]
        halves = [split_near(graph_of(attempt), honest, rng.permutation(11)) for _ in range(100 * (11 in holders))]
        if any(halves):
            one, other = next(half for half in halves if half)
            break
    attempt.hold("masked")
    both = collect(attempt, one, everyone, forks=[11]), collect(attempt, other, without, forks=[11])
    return attempt, [
        {s: share for s, body in opened.items() for owner, share in body[kind] if owner == VICTIM and share}
        for opened, kind in zip(both, ("seeds", "keys"), strict=True)
    ]


def test_attack_different_survivors_shown_to_different_neighbourhoods(fleet):
    attempt, (seeds, keys) = split_the_fleet(fleet)
    assert set(seeds) == set(keys) == {11}


def test_attack_different_survivors_succeeds_where_sites_ask_only_their_neighbours(fleet, strip, monkeypatch):
    """As in Bell et al. without their 2t > k + c: t signatures of its own holders, and a site opens."""

    def near_enough(self, agreement, signatures):
        own = graph_of_party[self._seat]
        valid = [s for s in own if verify(self._session.key_of(s), signatures.get(s, b""), agreement.statement)]
        if len(valid) < self._terms.threshold:
            raise ProtocolError(f"{len(valid)} neighbours agree")

    graph_of_party = {}
    agree = FleetParty._agree

    def remember(self, state, body):
        graph_of_party[self._seat] = state.graph.holders_of(self._seat)
        return agree(self, state, body)

    monkeypatch.setattr(FleetParty, "_agree", remember)
    monkeypatch.setattr(FleetParty, "_require_agreement", near_enough)
    attempt, (seeds, keys) = split_the_fleet(fleet)
    assert len(seeds) == len(keys) == 3
    np.testing.assert_array_equal(strip(attempt, seeds, keys), attempt.vectors[VICTIM])


def test_attack_a_signature_that_does_not_hold_ends_it_for_good(fleet):
    """It cannot be tried again with other signatures, until the ones that a site looks at are true."""
    attempt = fleet(terms=(5, 3, 9)).until("unmask")
    true = attempt.outbox[1]
    signatures = {
        s: attempt.body(f)["signature"] for s, f in itertools.islice(attempt.heard["consistency"].items(), 10)
    }
    signatures |= {3: bytes(64), 4: bytes(64)}
    with pytest.raises(ProtocolError, match="did not sign the statement"):
        attempt.ask(1, attempt.request("unmask", 1, write_signatures(signatures, 12)))
    with pytest.raises(ProtocolError, match="has left this attempt"):
        attempt.ask(1, true)


def test_attack_signatures_that_are_too_few_or_of_sites_that_dropped_out(fleet):
    attempt = fleet(terms=(8, 3, 10)).until("masked")
    attempt.hold("masked", absent=[5])
    attempt.hold("consistency")
    signatures = {s: attempt.body(f)["signature"] for s, f in attempt.heard["consistency"].items()}
    nine = dict(itertools.islice(signatures.items(), 9))
    for shown, why in (
        (nine, "9 signatures, expected 10"),
        (signatures, "11 signatures, expected 10"),
        ({**nine, 5: bytes(64)}, r"signatures of seats \[5\], who are not among the survivors"),
    ):
        with pytest.raises(ProtocolError, match=why):
            attempt.ask(1, attempt.request("unmask", 1, write_signatures(shown, 12)))
    assert isinstance(attempt.finish(start="unmask"), Aggregate)


def test_attack_a_site_listed_as_active_and_dropped(fleet):
    attempt = fleet().until("unmask")
    for body in ({"active": list(range(12)), "dead": [0]}, {**attempt.body(attempt.outbox[1], 1), "dead": [0]}):
        with pytest.raises(ProtocolError):
            attempt.ask(1, attempt.request("unmask", 1, body))
    for seat in range(12):
        opened = attempt.body(attempt.ask(seat, attempt.outbox[seat]))
        assert [s for s, _ in opened["seeds"]] == list(graph_of(attempt).held_by(seat))
        assert opened["keys"] == []


def test_attack_a_site_listed_twice_succeeds_where_a_party_believes_the_lists(fleet, strip, monkeypatch):
    def believe(self, state, body):
        held = state.shares
        seeds = [[s, held[s].seed] for s in body["active"] if s in held]
        return Released(), Reply({"seeds": seeds, "keys": [[s, held[s].key] for s in body["dead"] if s in held]})

    monkeypatch.setattr(FleetParty, "_release", believe)
    attempt = fleet().until("unmask")
    seeds, keys = {}, {}
    for seat in graph_of(attempt).holders_of(VICTIM):
        request = attempt.request("unmask", seat, {"active": [VICTIM], "dead": [VICTIM]})
        body = attempt.body(attempt.ask(seat, request))
        seeds[seat], keys[seat] = body["seeds"][0][1], body["keys"][0][1]
    np.testing.assert_array_equal(strip(attempt, seeds, keys), attempt.vectors[VICTIM])


# A survivor cut off from everyone honest.


def cut_off(fleet):
    """Say that all neighbours of the victim dropped out, once the graph is known, and ask all the same for its seed."""
    for _ in range(200):
        attempt = fleet(terms=(2, 1, 7), dropouts=5).until("consistency")
        gone = graph_of(attempt).neighbours_of(VICTIM)
        survivors = [s for s in range(12) if s not in gone]
        if len(gone) <= 5 and all(set(graph_of(attempt).holders_of(s)) & set(survivors) for s in gone):
            break
    hashes = {s: attempt.coordinator._masked[s].hash for s in survivors}
    asked, signatures = sorted({*survivors, *graph_of(attempt).holders_of(VICTIM)}), {}
    for seat in asked:
        near = [p for p in graph_of(attempt).neighbours_of(seat) if p in hashes]
        vouches = [attempt.coordinator._masked[p].vouches[seat] for p in near]
        request = attempt.request("consistency", seat, write_proposal(hashes, 12, vouches))
        signatures[seat] = attempt.body(attempt.ask(seat, request))["signature"]
    shown = {s: signatures[s] for s in survivors[:7]}
    opened = {
        seat: attempt.body(attempt.ask(seat, attempt.request("unmask", seat, write_signatures(shown, 12))))
        for seat in asked
    }
    return attempt, opened


def test_attack_a_survivor_is_cut_off_by_who_is_said_to_have_dropped_out(fleet):
    with pytest.raises(
        ProtocolError, match="seat . sent its input, and the survivors hold .* none of it|holders vouch"
    ):
        cut_off(fleet)


def test_attack_a_survivor_is_cut_off_succeeds_where_a_site_signs_that_it_dropped_out_itself(fleet, monkeypatch):
    def sign_anything(self, state, body):
        hashes, _ = read_proposal(body, 12)
        commitments = list(commit_words(state.graph.view, hashes).values())
        agreement = Agreement(tuple(hashes), consistency_statement(self._session, tuple(hashes), commitments))
        return _fleet_party.Agreed(state.shares, agreement), Reply(sign(self._identity, agreement))

    monkeypatch.setattr(FleetParty, "_agree", sign_anything)
    attempt, opened = cut_off(fleet)
    session, graph = attempt.session, graph_of(attempt)
    seed = next(share for body in opened.values() for s, share in body["seeds"] if s == VICTIM)
    keys = {s: join({h: share}, weights([h])) for h, body in opened.items() for s, share in body["keys"]}
    mask_keys = {s: read_announcement(attempt.body(f)).public.mask for s, f in attempt.heard["keys"].items()}
    bare = np.frombuffer(attempt.body(attempt.heard["masked"][VICTIM])["words"], "<u4").copy()
    holder = next(h for h, body in opened.items() if VICTIM in dict(map(tuple, body["seeds"])))
    add_streams(bare, [self_stream(session, VICTIM, join({holder: seed}, weights([holder])))._replace(sign=-1)])
    pairs = [
        pair_stream(session, X25519PrivateKey.from_private_bytes(keys[s]), s, VICTIM, mask_keys)
        for s in graph.neighbours_of(VICTIM)
    ]
    add_streams(bare, pairs)
    np.testing.assert_array_equal(session.encoding.from_words(bare), attempt.vectors[VICTIM])
