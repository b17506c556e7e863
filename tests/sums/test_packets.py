"""Packets open for their receiver, in their session, from their dealer; for nobody else."""

import dataclasses
import os

import pytest

from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.frame import open_frame, seal
from commonprior.sums._keys import draw
from commonprior.sums._packets import SEALED_BYTES, Shares, open_packet, read_packet_frame, seal_packet

SHARES = Shares(bytes(range(33)), bytes(range(33, 66)))


@pytest.fixture
def channel():
    return draw(os.urandom).channel


@pytest.fixture
def frame(session, identities, channel):
    return seal_packet(identities[0], session(), 0, 1, channel.public_key().public_bytes_raw(), SHARES)


def test_the_receiver_opens_what_the_dealer_sealed(session, channel, frame):
    packet = read_packet_frame(frame, session(), 0, 1)
    assert len(packet.sealed) == SEALED_BYTES
    assert open_packet(packet, channel, session(), 0, 1) == SHARES


def test_it_opens_for_no_other_key_seat_or_session(session, channel, frame):
    packet = read_packet_frame(frame, session(), 0, 1)
    other = dataclasses.replace(session(), attempt=1)
    assert open_packet(packet, draw(os.urandom).channel, session(), 0, 1) is None
    assert open_packet(packet, channel, other, 0, 1) is None
    assert open_packet(packet, channel, session(), 2, 1) is None
    assert open_packet(packet, channel, session(), 0, 2) is None


def test_the_seal_itself_is_bound_to_dealer_receiver_and_session(session, channel, frame, monkeypatch):
    packet = read_packet_frame(frame, session(), 0, 1)
    monkeypatch.setattr("commonprior.sums._packets.commit_share", lambda *rest: b"the same")
    packet = packet._replace(seed=b"the same", key=b"the same")
    assert open_packet(packet, channel, session(), 0, 1) == SHARES
    for made, dealer, receiver in ((session(round=2), 0, 1), (session(), 2, 1), (session(), 0, 2)):
        assert open_packet(packet, channel, made, dealer, receiver) is None


def test_shares_other_than_the_committed_ones_do_not_open(session, channel, frame):
    packet = read_packet_frame(frame, session(), 0, 1)
    assert open_packet(packet._replace(seed=bytes(32)), channel, session(), 0, 1) is None
    assert open_packet(packet._replace(key=packet.seed), channel, session(), 0, 1) is None


def test_only_a_packet_frame_is_a_packet(session, identities, frame):
    body = open_frame(frame, session(), 1).body
    for phase, dealer, error in (("shares", 0, ProtocolError), ("packet", 2, ProtocolError)):
        wrong = seal(identities[dealer], session(), phase, dealer, 1, body)
        with pytest.raises(error, match="in the place of seat 0's packet"):
            read_packet_frame(wrong, session(), 0, 1)
    with pytest.raises(MalformedMessage, match="expected at most 1024 bytes"):
        read_packet_frame(frame + bytes(1024), session(), 0, 1)
