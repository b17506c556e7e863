"""Where tasks come from. One file a source; a recipe's `[tasks]` names it."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from commonprior.task import Pool, TaskSpec


class Family(NamedTuple):
    """Tasks by site. `note` is what every output says of them (simulated data, many sites on one machine)."""

    spec: TaskSpec
    train: Mapping[str, Sequence[Pool]]
    valid: Mapping[str, Sequence[Pool]]
    test: Mapping[str, Sequence[Pool]]
    note: str = ""


class TaskSource(abc.ABC):
    """A place tasks come from."""

    @abc.abstractmethod
    def load(self, data: Path | None) -> Family:
        """Return the family. `data` is the folder of `--data`; a source that needs none ignores it.

        Raises `DataError` with one sentence (value, file, row, what to do) where the data does not fit.
        """
