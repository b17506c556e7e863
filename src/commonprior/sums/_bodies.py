"""What every sum's messages are made of, read strictly: bytes of one size, seats ascending and within the roster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from commonprior.canonical import Value
from commonprior.errors import MalformedMessage, ProtocolError
from commonprior.frame import Frame, open_frame
from commonprior.session import COORDINATOR, Seat, Session

Said = TypeVar("Said")


def write_by_seat(items: Mapping[Seat, bytes]) -> Value:
    """Return the list that `by_seat` reads back."""
    return [[seat, items[seat]] for seat in sorted(items)]


def by_seat(what: str, value: list[Value], parties: int) -> dict[Seat, bytes]:
    """Return bytes by seat."""
    pairs: list[tuple[Value, bytes]] = []
    for item in value:
        match item:
            case [seat, bytes() as data]:
                pairs.append((seat, data))
            case _:
                raise MalformedMessage(f"{what}: expected [seat, bytes]")
    seats = ascending(what, [seat for seat, _ in pairs], parties)
    return {seat: data for seat, (_, data) in zip(seats, pairs, strict=True)}


def ascending(what: str, value: list[Value], parties: int) -> tuple[Seat, ...]:
    """Return seats of a roster of `parties`, ascending, each once."""
    seats: list[Seat] = []
    for item in value:
        if type(item) is not int or not 0 <= item < parties:
            raise MalformedMessage(f"{what}: {item!r} is no seat of {parties}")
        if seats and item <= seats[-1]:
            raise MalformedMessage(f"{what}: seat {item} after seat {seats[-1]}; expected them ascending, each once")
        seats.append(item)
    return tuple(seats)


def frames(what: str, value: list[Value], parties: int) -> list[bytes]:
    """Return at most one frame for each of `parties`, unopened."""
    if len(value) > parties:
        raise MalformedMessage(f"expected {what}: at most {parties} frames")
    return [octets(f"{what} frame", frame) for frame in value]


def octets(what: str, value: Value) -> bytes:
    """Return bytes."""
    if not isinstance(value, bytes):
        raise MalformedMessage(f"{what}: expected bytes, got {type(value).__name__}")
    return value


def sized(what: str, value: bytes, size: int) -> bytes:
    """Return bytes of one size."""
    if len(value) != size:
        raise MalformedMessage(f"{what} of {len(value)} bytes, expected {size}")
    return value


def open_relayed(frame: bytes, session: Session, phase: str) -> Frame:
    """Open what a site signed for the coordinator, which shows it to others: the site's own signature counts."""
    opened = open_frame(frame, session, COORDINATOR)
    if opened.phase != phase or opened.sender == COORDINATOR:
        raise ProtocolError(f"{opened.phase} frame of seat {opened.sender} in the place of a site's {phase}")
    return opened


def open_keys(relayed: list[bytes], session: Session, read: Callable[[Value], Said]) -> dict[Seat, Said]:
    """Open every relayed keys frame: its own signature, over this session, is what puts a site into the round."""
    keys: dict[Seat, Said] = {}
    for frame in relayed:
        opened = open_relayed(frame, session, "keys")
        if opened.sender in keys:
            raise ProtocolError(f"seat {opened.sender} announces keys twice; expected one keys frame a site")
        keys[opened.sender] = read(opened.body)
    return keys
