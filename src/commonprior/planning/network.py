"""Networks as cited data: `profiles/networks/*.toml`."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import NamedTuple

from commonprior.errors import InputError


class Network(NamedTuple):
    """A site's link, `up` and `down` in bits a second, its `round_trip` to the coordinator in seconds, and the
    coordinator's own link, `coordinator` bits a second each way, which all sites share.
    """

    name: str
    up: float
    down: float
    round_trip: float
    coordinator: float
    sources: tuple[str, ...]

    def seconds(self, up: float, down: float, all_up: float, all_down: float) -> tuple[float, float]:
        """Return how long it takes to be sent `down` bytes and to send `up`, while all sites together do so."""
        asking = max(8 * down / self.down, 8 * all_down / self.coordinator)
        answering = max(8 * up / self.up, 8 * all_up / self.coordinator)
        return asking, answering


def networks() -> list[str]:
    """Return the names of the profiles there are."""
    folder = resources.files("commonprior.profiles") / "networks"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_network(name: str) -> Network:
    """Return a profile; raise `InputError` for one that is not there."""
    known = networks()
    if name not in known:
        raise InputError(f"--network {name!r}: expected {', '.join(known)}")
    file = resources.files("commonprior.profiles") / "networks" / f"{name}.toml"
    table = tomllib.loads(file.read_text())
    return Network(name, table["up"], table["down"], table["round_trip"], table["coordinator"], tuple(table["sources"]))
