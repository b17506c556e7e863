"""Constants of the materials that `nanothermal` simulates, each with its source.

A value marked "order of magnitude" is good enough for simulated data and for nothing else. The Umklapp strength is no
constant of this file: `_phonons.calibrate` finds it from `conductivity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final


class Element(NamedTuple):
    """`mass` in u; `variance` is the isotopes' relative mass variance sum_i f_i (1 - M_i / mass)^2."""

    mass: float
    variance: float


ELEMENTS = {  # computed from the isotopic compositions of the elements (IUPAC)
    "B": Element(10.811, 1.354e-3),
    "C": Element(12.011, 7.39e-5),
    "N": Element(14.007, 1.84e-5),
    "Si": Element(28.086, 2.01e-4),
    "P": Element(30.974, 0.0),
    "S": Element(32.065, 1.65e-4),
    "Ga": Element(69.723, 1.97e-4),
    "Ge": Element(72.630, 5.87e-4),
    "As": Element(74.922, 0.0),
    "Se": Element(78.96, 4.63e-4),
    "Mo": Element(95.96, 5.96e-4),
    "In": Element(114.818, 1.25e-5),
    "Te": Element(127.60, 2.84e-4),
    "W": Element(183.84, 6.97e-5),
    "Bi": Element(208.980, 0.0),
}


@final
@dataclass(frozen=True)
class Material:
    """One phonon conductor.

    A `crystal` is isotropic with one longitudinal and two transverse branches; `layered` has one of each in the plane.
    `conductivity` [W m-1 K-1] is the cited one at 300 K of natural isotopes, measured on a piece of `reference_length`
    (a tube also of `reference_diameter`; infinite where the piece was bulk).
    """

    name: str
    structure: Literal["crystal", "layered"]
    composition: tuple[tuple[str, int], ...]
    longitudinal: float
    """Sound velocity, m s-1; so are `transverse` and `axial` (across the layers)."""
    transverse: float
    cell: float
    """Volume [m3] of the primitive cell of a crystal, area [m2] of that of a layer."""
    conductivity: float
    velocity_source: str
    conductivity_source: str
    atoms: int = 2
    axial: float = math.nan
    flexural: float = math.nan
    """Velocity of a third branch of a rolled layer, m s-1; flat ones bend with k^2 and carry little in this model."""
    spacing: float = math.nan
    """Distance of the layers, m."""
    lattice: float = math.nan
    """Lattice constant in the layer, m."""
    reference_length: float = math.inf
    reference_diameter: float = math.inf

    @property
    def branches(self) -> tuple[tuple[float, int], ...]:
        """Sound velocity and degeneracy of each acoustic branch."""
        if self.structure == "crystal":
            return (self.longitudinal, 1), (self.transverse, 2)
        pair = (self.longitudinal, 1), (self.transverse, 1)
        return pair if math.isnan(self.flexural) else (*pair, (self.flexural, 1))

    @property
    def mass(self) -> float:
        """Mean atomic mass, u."""
        total = sum(n for _, n in self.composition)
        return sum(n * ELEMENTS[e].mass for e, n in self.composition) / total

    @property
    def isotopes(self) -> float:
        """Mass variance of natural isotopes per atom: sum_e c_e (M_e / M)^2 variance_e (Tamura 1983)."""
        total = sum(n for _, n in self.composition)
        return sum(n / total * (ELEMENTS[e].mass / self.mass) ** 2 * ELEMENTS[e].variance for e, n in self.composition)


class Matrix(NamedTuple):
    """What particles are embedded in: `conductivity` [W m-1 K-1] and Kapitza `resistance` [m2 K W-1]."""

    conductivity: float
    resistance: float


_ELASTIC = "[100], from C11, C44 and density (Ioffe NSM archive)"


def _cubic(lattice: float) -> float:
    return lattice**3 / 4


def _hexagon(lattice: float) -> float:
    return math.sqrt(3) / 2 * lattice**2


MATERIALS = {
    material.name: material
    for material in (
        Material(
            "Si",
            "crystal",
            (("Si", 1),),
            longitudinal=8430,
            transverse=5840,
            cell=_cubic(5.431e-10),
            conductivity=148,
            velocity_source=_ELASTIC + "; Holland, Phys. Rev. 132, 2461 (1963) has 8480 and 5860",
            conductivity_source="Ho, Powell & Liley, J. Phys. Chem. Ref. Data 1, 279 (1972)",
        ),
        Material(
            "Ge",
            "crystal",
            (("Ge", 1),),
            longitudinal=4870,
            transverse=3570,
            cell=_cubic(5.658e-10),
            conductivity=59.9,
            velocity_source=_ELASTIC + "; Holland (1963) has 4920 and 3550",
            conductivity_source="Ho, Powell & Liley (1972); Glassbrenner & Slack, Phys. Rev. 134, A1058 (1964)",
        ),
        Material(
            "GaAs",
            "crystal",
            (("Ga", 1), ("As", 1)),
            longitudinal=4730,
            transverse=3350,
            cell=_cubic(5.653e-10),
            conductivity=45.5,
            velocity_source="[100], McSkimin, Jayaraman & Andreatch, J. Appl. Phys. 38, 2362 (1967)",
            conductivity_source="Blakemore, J. Appl. Phys. 53, R123 (1982), after Carlson, Slack & Silverman (1965)",
        ),
        Material(
            "InP",
            "crystal",
            (("In", 1), ("P", 1)),
            longitudinal=4580,
            transverse=3080,
            cell=_cubic(5.869e-10),
            conductivity=68,
            velocity_source=_ELASTIC,
            conductivity_source="Ioffe NSM archive, after Aliev et al. (1965)",
        ),
        Material(
            "Bi2Te3",
            "crystal",
            (("Bi", 2), ("Te", 3)),
            longitudinal=2950,
            transverse=1790,
            cell=_hexagon(4.386e-10) * 30.50e-10 / 3,
            conductivity=1.54,
            velocity_source="in the plane, Jenkins, Rayne & Ure, Phys. Rev. B 5, 3171 (1972); taken as isotropic",
            conductivity_source="lattice part, Goldsmid, as tabulated by Witting et al., Research 2020, 4361703",
            atoms=5,
        ),
        Material(
            "graphite",
            "layered",
            (("C", 1),),
            longitudinal=22150,
            transverse=14650,
            cell=_hexagon(2.461e-10),
            conductivity=1950,
            velocity_source="Bosak et al., Phys. Rev. B 75, 153408 (2007)",
            conductivity_source="pyrolytic, along the layers, Ho, Powell & Liley (1972)",
            axial=4140,
            spacing=3.35e-10,
            lattice=2.461e-10,
        ),
        Material(
            "graphene",
            "layered",
            (("C", 1),),
            longitudinal=21300,
            transverse=13600,
            cell=_hexagon(2.461e-10),
            conductivity=3000,
            velocity_source="Nika, Ghosh, Pokatilov & Balandin, Appl. Phys. Lett. 94, 203103 (2009)",
            conductivity_source="within the 2000 to 5000 of Balandin, Nature Mater. 10, 569 (2011)",
            axial=4140,
            spacing=3.35e-10,
            lattice=2.461e-10,
            reference_length=1e-5,
        ),
        Material(
            "CNT",
            "layered",
            (("C", 1),),
            longitudinal=20350,
            transverse=15000,
            flexural=9430,
            cell=_hexagon(2.461e-10),
            conductivity=3000,
            velocity_source="longitudinal, twist and bending modes, Saito et al., Phys. Rev. B 57, 4145 (1998)",
            conductivity_source="one multi-wall tube, Kim, Shi, Majumdar & McEuen, Phys. Rev. Lett. 87, 215502 (2001)",
            axial=4140,
            spacing=3.4e-10,
            lattice=2.461e-10,
            reference_length=2.5e-6,
            reference_diameter=14e-9,
        ),
        Material(
            "hBN",
            "layered",
            (("B", 1), ("N", 1)),
            longitudinal=18860,
            transverse=11870,
            cell=_hexagon(2.504e-10),
            conductivity=420,
            velocity_source="Bosak et al., Phys. Rev. B 73, 041402 (2006)",
            conductivity_source="Jiang, Qian, Yang & Lindsay, Phys. Rev. Mater. 2, 064005 (2018)",
            axial=3440,
            spacing=3.33e-10,
            lattice=2.504e-10,
        ),
        Material(
            "MoS2",
            "layered",
            (("Mo", 1), ("S", 2)),
            longitudinal=6700,
            transverse=4200,
            cell=_hexagon(3.160e-10),
            conductivity=82,
            velocity_source="Kaasbjerg, Thygesen & Jacobsen, Phys. Rev. B 85, 115317 (2012); "
            "axial from C33, Feldman, J. Phys. Chem. Solids 37, 1141 (1976)",
            conductivity_source="Jiang, Qian, Gu & Yang, Adv. Mater. 29, 1701068 (2017)",
            atoms=3,
            axial=3200,
            spacing=6.15e-10,
            lattice=3.160e-10,
        ),
        Material(
            "WS2",
            "layered",
            (("W", 1), ("S", 2)),
            longitudinal=5500,
            transverse=3450,
            cell=_hexagon(3.153e-10),
            conductivity=120,
            velocity_source="order of magnitude, from the stiffness of MoS2 and the mass",
            conductivity_source="Jiang, Qian, Gu & Yang (2017)",
            atoms=3,
            axial=2800,
            spacing=6.16e-10,
            lattice=3.153e-10,
        ),
        Material(
            "MoSe2",
            "layered",
            (("Mo", 1), ("Se", 2)),
            longitudinal=4900,
            transverse=3050,
            cell=_hexagon(3.288e-10),
            conductivity=40,
            velocity_source="order of magnitude, from the stiffness of MoS2 and the mass",
            conductivity_source="bulk crystal of Saleta Reig et al., arXiv:2109.09225 (2021)",
            atoms=3,
            axial=2750,
            spacing=6.46e-10,
            lattice=3.288e-10,
        ),
    )
}

MATRICES = {  # conductivities: handbook values at 300 K; resistances: order of magnitude
    "epoxy": Matrix(0.2, 8.3e-8),  # 12 MW m-2 K-1, Huxtable et al., Nature Mater. 2, 731 (2003)
    "coupled epoxy": Matrix(0.2, 1e-8),
    "silica": Matrix(1.4, 1e-8),
    "alumina": Matrix(36.0, 5e-9),
}
