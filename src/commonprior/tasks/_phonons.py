"""Phonon heat conduction in nanostructures: Callaway's integral with Matthiessen's rule.

Sources: Callaway, Phys. Rev. 113, 1046 (1959), without his normal-process correction; branch by branch as in
Holland, Phys. Rev. 132, 2461 (1963), with the sine dispersion of Dames & Chen, J. Appl. Phys. 95, 682 (2004).
docs/nanothermal.md states what is simplified.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.constants import atomic_mass, hbar
from scipy.constants import k as boltzmann
from scipy.optimize import root_scalar

from commonprior.tasks._nanomaterials import Material

_NODES = 24
_ANGLES = 16
_VACANCY = 9.0
"""Mass variance of one vacancy, (-1 - 2)^2: its mass and its bonds (Klemens; Gurunathan et al., Phys. Rev. Applied 13,
034011 (2020))."""
_CURVATURE = 0.185
"""Slope of a tube's curvature factor (Cao & Qu, J. Appl. Phys. 112, 013503 (2012))."""


class Spectrum(NamedTuple):
    """The acoustic branches on k quadrature nodes; every field is [k]."""

    frequency: np.ndarray
    """Angular, rad s-1."""
    speed: np.ndarray
    """Group velocity, m s-1."""
    modes: np.ndarray
    """Modes per volume in a node times the mean squared cosine of their direction, m-3."""
    umklapp: np.ndarray
    """Umklapp rate per Grueneisen parameter squared and kelvin where nothing freezes, s-1 K-1."""
    freeze: np.ndarray
    """Temperature below which Umklapp processes freeze out, K."""
    disorder: np.ndarray
    """Rate of point defects per unit of mass variance, s-1."""
    stretch: np.ndarray
    """In-plane over axial sound velocity: how much thicker a film looks to a phonon than to a ruler."""


class Crystal(NamedTuple):
    """A material with its spectrum and the Grueneisen parameter that gives its cited conductivity."""

    material: Material
    spectrum: Spectrum
    grueneisen: float


class Specimens(NamedTuple):
    """n pieces of one material; every field is [n] or a number for all of them, in SI units."""

    temperature: np.ndarray | float
    size: np.ndarray | float
    """Thickness of a film, diameter of a wire or tube, edge of a flake, radius of a particle; m."""
    length: np.ndarray | float = np.inf
    """Length of a tube, m."""
    specularity: np.ndarray | float = 0.0
    """Share of phonons that a surface reflects like a mirror."""
    defects: np.ndarray | float = 0.0
    """Share of atoms that are missing."""
    isotopes: np.ndarray | float = 1.0
    """Mass variance of the isotopes over that of natural ones."""
    fraction: np.ndarray | float = 0.0
    """Volume fraction of particles."""
    matrix: np.ndarray | float = 1.0
    """Conductivity around the particles, W m-1 K-1."""
    resistance: np.ndarray | float = 0.0
    """Kapitza resistance of a particle's surface, m2 K W-1."""


def spectrum(material: Material) -> Spectrum:
    """Return the branches of a material.

    omega = (2/pi) v k_m sin(pi k / 2 k_m), k_m from the primitive cell. Layers are stacks of two-dimensional phonon
    gases above the cut-off of the axial modes, 2 v_z / spacing, and three-dimensional below (after Klemens & Pedraza,
    Carbon 32, 735 (1994)).
    """
    crystal = material.structure == "crystal"
    edge = (6 * np.pi**2 / material.cell) ** (1 / 3) if crystal else (4 * np.pi / material.cell) ** (1 / 2)
    per_atom = material.cell / material.atoms
    fields = []
    for velocity, degeneracy in material.branches:
        top = 2 / np.pi * velocity * edge
        freeze = top if crystal else 2 * material.axial / material.spacing
        kink = 2 / np.pi * np.arcsin(min(1.0, freeze / top))  # of the layers' density of modes
        reduced, weight = _quadrature(0, kink, 1)
        k, frequency = edge * reduced, top * np.sin(np.pi / 2 * reduced)
        if crystal:
            modes = k**2 / (2 * np.pi**2) / 3
            disorder = per_atom * frequency**4 / (4 * np.pi * velocity**3)
            stretch = 1.0
        else:
            stretch = velocity / material.axial
            modes = k / (2 * np.pi * material.spacing) / 2 * np.minimum(1, frequency / freeze)
            disorder = per_atom * frequency**3 / (4 * velocity**2)
        umklapp = boltzmann * frequency**2 / (material.mass * atomic_mass * velocity**2 * top)
        fields.append(
            Spectrum(
                frequency,
                velocity * np.cos(np.pi / 2 * reduced),
                degeneracy * modes * edge * weight,
                umklapp,
                np.full_like(k, hbar * freeze / boltzmann),
                disorder,
                np.full_like(k, stretch),
            )
        )
    return Spectrum(*(np.concatenate(field) for field in zip(*fields)))


def calibrate(material: Material) -> Crystal:
    """Return the crystal whose Grueneisen parameter reproduces the cited conductivity at 300 K to 1e-9."""
    branches = spectrum(material)
    target = np.log(material.conductivity / _curvature(material, material.reference_diameter))
    reference = Specimens(300.0, material.reference_length)

    def excess(grueneisen: float) -> float:
        return float(np.log(flake(Crystal(material, branches, grueneisen), reference)[0]) - target)

    return Crystal(material, branches, float(root_scalar(excess, bracket=(1e-2, 30), xtol=1e-11).root))


def bulk(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the conductivity [n] of a piece without surfaces, W m-1 K-1."""
    return np.sum(_capacity(crystal, specimens) / _rate(crystal, specimens), axis=-1)


def film(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the in-plane conductivity [n] of films of thickness `size` (Fuchs-Sondheimer, mode by mode)."""
    rate = _rate(crystal, specimens)
    path = crystal.spectrum.speed / rate
    thickness = _column(specimens.size) * crystal.spectrum.stretch / path
    reduction = fuchs_sondheimer(thickness, _column(specimens.specularity))
    return np.sum(_capacity(crystal, specimens) / rate * reduction, axis=-1)


def wire(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the conductivity [n] along wires or ribbons of width `size`, whose surface reflects `specularity`."""
    specularity = _column(specimens.specularity)
    surface = crystal.spectrum.speed / _column(specimens.size) * (1 - specularity) / (1 + specularity)
    return np.sum(_capacity(crystal, specimens) / (_rate(crystal, specimens) + surface), axis=-1)


def flake(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the in-plane conductivity [n] of flakes whose edges, `size` apart, reflect `specularity`."""
    return wire(crystal, specimens)


def tube(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the conductivity [n] of rolled layers: ends `length` apart absorb, and curvature lowers it by `size`."""
    ends = specimens._replace(size=specimens.length, specularity=0.0)
    return wire(crystal, ends) * _curvature(crystal.material, specimens.size)


def composite(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the conductivity [n] of spheres of radius `size` in a matrix.

    Hasselman & Johnson, J. Compos. Mater. 21, 508 (1987); Nan et al., J. Appl. Phys. 81, 6692 (1997).
    """
    radius = np.asarray(specimens.size, np.float64)
    particle = wire(crystal, specimens._replace(size=2 * radius, specularity=0.0))
    matrix, f = np.asarray(specimens.matrix, np.float64), np.asarray(specimens.fraction, np.float64)
    seen = particle / (1 + particle * specimens.resistance / radius)
    return matrix * (seen + 2 * matrix + 2 * f * (seen - matrix)) / (seen + 2 * matrix - f * (seen - matrix))


def fuchs_sondheimer(thickness: np.ndarray, specularity: np.ndarray) -> np.ndarray:
    """Return a film's in-plane reduction of one mean free path, `thickness` in units of that path.

    1 - 3 (1 - p) / (2 d) integral_0^1 (u - u^3) (1 - e^(-d/u)) / (1 - p e^(-d/u)) du (Sondheimer, Adv. Phys. 1, 1
    (1952), with u = 1/t).
    """
    u, weight = _quadrature(0, 1, nodes=_ANGLES)
    thickness, specularity = np.broadcast_arrays(thickness, specularity)
    d, p = thickness[..., None], specularity[..., None]
    lost = (u - u**3) * -np.expm1(-d / u) / (1 - p * np.exp(-d / u))
    return 1 - 1.5 * (1 - specularity) / thickness * (lost @ weight)


def _rate(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return the rates [n, k] of all that happens inside a crystal, added by Matthiessen's rule, s-1."""
    s, temperature = crystal.spectrum, _column(specimens.temperature)
    umklapp = crystal.grueneisen**2 * s.umklapp * temperature * np.exp(-s.freeze / (3 * temperature))
    variance = crystal.material.isotopes * _column(specimens.isotopes) + _VACANCY * _column(specimens.defects)
    return umklapp + variance * s.disorder


def _capacity(crystal: Crystal, specimens: Specimens) -> np.ndarray:
    """Return heat capacity times squared velocity along the heat flow [n, k], W m-1 K-1 s-1."""
    s = crystal.spectrum
    half = hbar * s.frequency / (2 * boltzmann * _column(specimens.temperature))
    capacity = boltzmann * (half / np.sinh(np.minimum(half, 350))) ** 2  # past 350 the square overflows
    return s.modes * s.speed**2 * capacity


def _curvature(material: Material, diameter: np.ndarray | float) -> np.ndarray | float:
    return 1.0 if np.all(np.isinf(diameter)) else -np.expm1(-_CURVATURE * np.asarray(diameter) / material.lattice)


def _column(values: np.ndarray | float) -> np.ndarray:
    return np.atleast_1d(np.asarray(values, np.float64))[:, None]


def _quadrature(*bounds: float, nodes: int = _NODES) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights between each two bounds; they gather at the first, 0.

    There lie the long waves and the grazing angles that carry the heat of thick, cold or smooth pieces.
    """
    x, weight = np.polynomial.legendre.leggauss(nodes)
    roots = np.sqrt(np.asarray(bounds))
    spans = [(low, high - low) for low, high in itertools.pairwise(roots) if high > low]
    s = np.concatenate([low + span * (x + 1) / 2 for low, span in spans])
    return s**2, 2 * s * np.concatenate([span * weight / 2 for _, span in spans])
