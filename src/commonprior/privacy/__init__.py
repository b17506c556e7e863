"""Clip and noise as one mechanism, with its cost as data."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from dp_accounting import DpEvent

from commonprior.prior import Contributions, Tensors
from commonprior.session import Encoding
from commonprior.task import Array

Csprng = Callable[[int], bytes]
"""n -> n unpredictable bytes. Secrets and DP noise come from here; learning and rounding come from a `key`."""


class Release(NamedTuple):
    """What one round gives away: among `parties` sites, at worst only `honest` of the survivors added noise.

    `length` is d, the learner's, however few numbers travel; `rows` is the public number of tasks a site, by which a
    task's mean is divided at every site.
    """

    parties: int
    honest: int
    length: int
    rows: int


class Mechanism(abc.ABC):
    """compress -> clip -> encode to integers -> noise, in this order, at the site.

    `clip` is the largest L2 norm of one row, `noise` the noise multiplier of the whole sum: a site's policy bounds
    both.

    The unit is a task or a site, never a record: a row is a gradient through adaptation and no sum over the records of
    a task, so that records cannot be clipped one by one. What follows for a record that lies in one task: to change
    it, or to take it out, moves one row by at most twice the clip, and costs what a task costs at half the noise.
    """

    clip: float
    noise: float

    @property
    @abc.abstractmethod
    def unit(self) -> Literal["task", "site"]:
        """What one clipped row protects; named in every output."""

    @abc.abstractmethod
    def width(self, length: int) -> int:
        """Return how many integers travel for an update of `length` numbers."""

    @abc.abstractmethod
    def encoding(self, release: Release) -> Encoding:
        """Return the scale and width at which the sum of everyone's integers cannot wrap."""

    @abc.abstractmethod
    def protect(
        self,
        contributions: Contributions,
        encoding: Encoding,
        release: Release,
        memory: Tensors,
        key: Array,
        csprng: Csprng,
    ) -> tuple[np.ndarray, Tensors]:
        """Return integers [width(d)] int64 within the encoding's limit, and what the site keeps.

        Stochastic rounding is drawn from `key`, noise from `csprng`.
        """

    @abc.abstractmethod
    def mean(self, total: np.ndarray, encoding: Encoding, release: Release, survivors: int) -> np.ndarray:
        """Return the mean update [d] float64 from the integers' sum over `survivors` sites; public denominator."""

    @abc.abstractmethod
    def observe(self, total: np.ndarray, release: Release, survivors: int) -> Mechanism:
        """Return the mechanism of the next round; adaptive clipping reads the sum's quantile count.

        Canonical, as `Learner.apply` is: every site, the coordinator and an auditor come to the same bits.
        """

    @abc.abstractmethod
    def state(self) -> Tensors:
        """Return what `observe` has moved, float32, by names that begin with `mechanism/`: it travels in the prior.

        There it is covered by the prior's hash and signatures, and a site that missed a round, or restarts, has it.
        """

    @abc.abstractmethod
    def resume(self, state: Tensors) -> Mechanism:
        """Return this mechanism with the state of a prior; what is not there is as in the recipe.

        Raises `ProtocolError` for a state that cannot be.
        """

    @abc.abstractmethod
    def spends(self, release: Release) -> DpEvent:
        """Return the privacy cost of one release, for `unit`. What is unknown is refused, never free."""
