"""Thermal conductivity of nanostructures, simulated: tasks are material x topology x process, sites are laboratories.

The material itself is no input: a task's samples must reveal it. The labels come from a model of phonon transport
(`_phonons`) with log-normal measurement noise; they are not measurements. docs/nanothermal.md states the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from commonprior.errors import RecipeError
from commonprior.task import Batch, Column, Rows, Target, Task, TaskSpec
from commonprior.tasks import Family, TaskSource
from commonprior.tasks._nanomaterials import MATERIALS, MATRICES
from commonprior.tasks._phonons import Crystal, Specimens, calibrate, composite, film, flake, tube, wire

NOTE = "simulated data: a model of phonon transport with added measurement noise, not measurements"


class Range(NamedTuple):
    """Uniformly drawn from `low` to `high`."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return n numbers."""
        return rng.uniform(self.low, self.high, n)


class Process(NamedTuple):
    """How the pieces of one task were made. `isotopes` and the matrix are hidden, the rest are inputs."""

    name: str
    specularity: Range = Range(0.0, 0.3)
    defects: Range = Range(-5.0, -4.0)
    """log10 of the share of missing atoms."""
    isotopes: float = 1.0
    matrix: str = "epoxy"


class Topology(NamedTuple):
    """A shape: its model, the ranges of its log10 lengths [m], which inputs it has, and how it is made."""

    conductivity: Callable[[Crystal, Specimens], np.ndarray]
    size: Range
    processes: tuple[Process, ...]
    length: Range | None = None
    surface: bool = True
    embedded: bool = False


_GROWN = (
    Process("as grown"),
    Process("annealed", Range(0.3, 0.7), Range(-6.0, -5.0)),
    Process("irradiated", defects=Range(-3.5, -2.5)),
    Process("isotope enriched", Range(0.2, 0.6), Range(-6.0, -5.0), isotopes=0.05),
)
_EMBEDDED = tuple(Process(f"in {matrix}", matrix=matrix) for matrix in MATRICES)

TOPOLOGIES = {
    "film": Topology(film, Range(-8.0, -6.0), _GROWN),
    "wire": Topology(wire, Range(-7.7, -6.3), _GROWN),
    "flake": Topology(flake, Range(-7.0, -4.5), _GROWN),
    "tube": Topology(tube, Range(-8.8, -7.7), _GROWN, length=Range(-7.0, -4.7), surface=False),
    "composite": Topology(composite, Range(-8.0, -5.7), _EMBEDDED, surface=False, embedded=True),
}

LABORATORIES = {
    "silicon-lab": {"Si": ("film", "wire", "composite"), "Ge": ("film", "wire", "composite")},
    "compound-lab": {"GaAs": ("film", "wire"), "Bi2Te3": ("film", "wire", "composite")},
    "carbon-lab": {"graphene": ("flake",), "graphite": ("film", "composite"), "CNT": ("tube",)},
    "layered-lab": {
        "hBN": ("flake", "film"),
        "WS2": ("flake", "tube"),
        "MoS2": ("flake", "film", "tube", "wire", "composite"),
    },
}
VALIDATION = {"InP": ("film", "wire", "composite"), "MoSe2": ("flake", "film", "tube")}
_SHAPES = {name: shapes for group in (*LABORATORIES.values(), VALIDATION) for name, shapes in group.items()}

COLUMNS = (
    Column("temperature", unit="K", centre=300.0, spread=150.0),
    Column("size", unit="m", transform="log10", centre=-7.0, spread=1.0),
    Column("length", unit="m", transform="log10", centre=-6.0, spread=1.0),
    Column("specularity", centre=0.3, spread=0.25),
    Column("defect fraction", transform="log10", centre=-4.5, spread=1.0),
    Column("volume fraction", centre=0.2, spread=0.1),
    Column("topology", kind="categorical", slots=len(TOPOLOGIES), categories=tuple(TOPOLOGIES)),
)
TARGET = Target(
    "log10 thermal conductivity", unit="log10 W m-1 K-1", scaling="public", centre=1.0, spread=1.0
)  # five samples say less about a task's spread than this constant does
_NUMERIC = COLUMNS[:-1]
_CENTRE = np.array([c.centre for c in _NUMERIC], np.float64)
_SPREAD = np.array([c.spread for c in _NUMERIC], np.float64)


@final
@dataclass(frozen=True)
class NanoPool:
    """One task: `rows` and noisy labels `y` [n] in log10 W m-1 K-1; `noise_free` knows the truth for any rows."""

    name: str
    rows: Rows
    y: np.ndarray
    crystal: Crystal
    topology: Topology
    process: Process

    @property
    def size(self) -> int:
        """How many labelled samples there are."""
        return len(self.y)

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw disjoint support and query, padded to [shots] and [queries]; one sample always stays to query."""
        order = rng.permutation(self.size)
        taken = min(shots, self.size - 1)
        return Task(self._batch(order[:taken], shots), self._batch(order[taken : taken + queries], queries))

    def noise_free(self, rows: Rows) -> np.ndarray:
        """Return what the model says of this task's material and process at `rows` [n]: labels [n] without noise."""
        return _labels(self.crystal, self.topology, self.process, rows)

    def _batch(self, chosen: np.ndarray, length: int) -> Batch:
        def padded(values: np.ndarray) -> np.ndarray:
            out = np.zeros((length, *values.shape[1:]), np.float32)
            out[: len(chosen)] = values[chosen]
            return out

        mask = np.zeros(length, np.float32)
        mask[: len(chosen)] = 1
        return Batch(Rows(*map(padded, self.rows)), padded(self.y), mask)


@final
@dataclass(frozen=True)
class Nanothermal(TaskSource):
    """Simulated conductivities of films, wires, flakes, tubes and composites of twelve materials.

    Four laboratories train, each with its own materials and shapes; InP and MoSe2 validate; `test_material` is nobody's
    training material. `noise` is the relative standard deviation of a measurement. `laboratories` keeps only some of
    the four ("silicon-lab", "compound-lab", "carbon-lab", "layered-lab"), to see what one has alone.
    """

    seed: int = 0
    samples_per_task: int = 64
    noise: float = 0.03
    test_material: str = "MoS2"
    laboratories: tuple[str, ...] = tuple(LABORATORIES)

    def __post_init__(self) -> None:
        if self.test_material not in MATERIALS:
            raise RecipeError(
                f"tasks.test_material: no material {self.test_material!r}; expected one of {', '.join(MATERIALS)}"
            )
        if unknown := [name for name in self.laboratories if name not in LABORATORIES]:
            raise RecipeError(
                f"tasks.laboratories: no laboratory {unknown[0]!r}; expected some of {', '.join(LABORATORIES)}"
            )
        if not self.laboratories:
            raise RecipeError(f"tasks.laboratories: it is empty; name some of {', '.join(LABORATORIES)}")
        if self.samples_per_task < 2:
            raise RecipeError(f"tasks.samples_per_task: {self.samples_per_task} is too few; expected 2 or more")
        if not 0 <= self.noise < 1:
            raise RecipeError(f"tasks.noise: {self.noise} is no relative deviation; expected 0 or more and less than 1")
        if self.seed < 0:
            raise RecipeError(f"tasks.seed: {self.seed} is negative; expected 0 or more")

    def load(self, data: Path | None) -> Family:
        """Simulate the family, the same for the same fields; `data` is not read."""
        train = {name: self._pools(LABORATORIES[name]) for name in self.laboratories}
        return Family(
            TaskSpec(TARGET, COLUMNS),
            {name: pools for name, pools in train.items() if pools},
            {"validation-lab": self._pools(VALIDATION)},
            {"newcomer-lab": self._material(self.test_material)},
            NOTE,
        )

    def _pools(self, materials: Iterable[str]) -> list[NanoPool]:
        return [pool for name in materials if name != self.test_material for pool in self._material(name)]

    def _material(self, name: str) -> list[NanoPool]:
        crystal = calibrate(MATERIALS[name])
        return [
            self._pool(crystal, topology, process)
            for topology in _SHAPES[name]
            for process in TOPOLOGIES[topology].processes
        ]

    def _pool(self, crystal: Crystal, shape: str, process: Process) -> NanoPool:
        topology, material = TOPOLOGIES[shape], crystal.material.name
        place = list(MATERIALS).index(material), list(TOPOLOGIES).index(shape), topology.processes.index(process)
        rng = np.random.default_rng((self.seed, *place))  # a task is the same whichever others are simulated
        rows = _draw(rng, topology, process, self.samples_per_task)
        truth = _labels(crystal, topology, process, rows)
        y = truth + self.noise / np.log(10) * rng.standard_normal(self.samples_per_task)
        return NanoPool(f"{material} {shape}, {process.name}", rows, y.astype(np.float32), crystal, topology, process)


def _draw(rng: np.random.Generator, topology: Topology, process: Process, n: int) -> Rows:
    present = np.array([True, True, topology.length is not None, topology.surface, True, topology.embedded], np.float32)
    drawn = np.stack(
        [
            rng.uniform(80.0, 600.0, n),
            topology.size.draw(rng, n),
            (topology.length or topology.size).draw(rng, n),
            process.specularity.draw(rng, n),
            process.defects.draw(rng, n),
            rng.uniform(0.02, 0.4, n),
        ],
        axis=1,
    )
    scaled = (drawn - _CENTRE) / _SPREAD * present
    kind = np.zeros((n, len(TOPOLOGIES)))
    kind[:, list(TOPOLOGIES.values()).index(topology)] = 1
    return Rows(
        np.concatenate([scaled, kind], axis=1).astype(np.float32),
        np.tile(np.append(present, 1).astype(np.float32), (n, 1)),
        np.zeros((n, 0), np.float32),
    )


def _labels(crystal: Crystal, topology: Topology, process: Process, rows: Rows) -> np.ndarray:
    """Return log10 conductivities [n]; a topology reads the columns that it has."""
    numbers = np.asarray(rows.values, np.float64)[:, : len(_NUMERIC)] * _SPREAD + _CENTRE
    temperature, size, length, specularity, defects, fraction = numbers.T
    matrix = MATRICES[process.matrix]
    specimens = Specimens(
        temperature,
        10.0**size,
        10.0**length,
        specularity,
        10.0**defects,
        process.isotopes,
        fraction,
        matrix.conductivity,
        matrix.resistance,
    )
    return np.log10(topology.conductivity(crystal, specimens))
