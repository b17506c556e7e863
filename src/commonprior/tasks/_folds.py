"""Who is held out: whole sites where there are several, tasks where there are not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from commonprior.errors import RecipeError
from commonprior.task import Pool
from commonprior.tasks._cells import listed

P = TypeVar("P", bound=Pool)
Tasks: TypeAlias = Mapping[str, Sequence[P]]

FEWEST_SITES = 8
"""Sites below which tasks are held out instead: of a handful of labs, each is worth more in the federation."""


class Folds(NamedTuple):
    """Which sites, or which tasks where there are fewer than eight sites, no training round sees.

    A listed fold is what its list says; an unlisted one is a fraction, by the SHA-256 of names and seed, so that the
    fold of a site does not depend on the order of a file.
    """

    valid_sites: tuple[str, ...]
    test_sites: tuple[str, ...]
    valid_fraction: float
    test_fraction: float
    seed: int

    def split(self, tasks: Tasks[P]) -> tuple[Tasks[P], Tasks[P], Tasks[P]]:
        """Return train, valid and test by site. Raises `RecipeError` for an unknown site, or none left to train."""
        for fold, held_out in (("valid_sites", self.valid_sites), ("test_sites", self.test_sites)):
            for site in held_out:
                if site not in tasks:
                    raise RecipeError(f"tasks.{fold}: no site {site!r}; the sites are {listed(sorted(tasks))}")
                if site in self.valid_sites and site in self.test_sites:
                    raise RecipeError(f"tasks.{fold}: site {site!r} is in valid_sites and in test_sites; choose one")
        if not (self.valid_sites or self.test_sites) and len(tasks) < FEWEST_SITES:
            return self._split_tasks(tasks)
        rest = [site for site in sorted(tasks) if site not in self.valid_sites + self.test_sites]
        test = self.test_sites or self._picked(rest, rest, self.test_fraction)
        valid = self.valid_sites or self._picked([s for s in rest if s not in test], rest, self.valid_fraction)
        train = [site for site in rest if site not in test and site not in valid]
        if not train:
            raise RecipeError("tasks: valid_sites and test_sites leave no site to train on; hold out fewer")
        return (
            {site: tasks[site] for site in train},
            {site: tasks[site] for site in sorted(valid)},
            {site: tasks[site] for site in sorted(test)},
        )

    def _split_tasks(self, tasks: Tasks[P]) -> tuple[Tasks[P], Tasks[P], Tasks[P]]:
        train: dict[str, Sequence[P]] = {}
        valid: dict[str, Sequence[P]] = {}
        test: dict[str, Sequence[P]] = {}
        for site, pools in tasks.items():
            own = {f"{site}\0{pool.name}": pool for pool in pools}
            tested = self._picked(list(own), list(own), self.test_fraction)
            rest = [name for name in own if name not in tested]
            validated = self._picked(rest, list(own), self.valid_fraction)
            train[site] = [own[name] for name in rest if name not in validated]
            if validated:
                valid[site] = [own[name] for name in validated]
            if tested:
                test[site] = [own[name] for name in tested]
        return train, valid, test

    def _picked(self, names: Sequence[str], of: Sequence[str], fraction: float) -> tuple[str, ...]:
        """Return `fraction` of all `of`, at least one but never the last, out of `names`."""
        count = min(max(1, round(fraction * len(of))), len(names) - 1) if fraction > 0 else 0
        return tuple(sorted(names, key=self._rank)[:count])

    def _rank(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{name}".encode(errors="surrogatepass")).digest()
