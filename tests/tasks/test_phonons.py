"""The physics of `nanothermal` against measurements, limits and scipy; its constants against the documentation."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.constants import hbar
from scipy.constants import k as boltzmann
from scipy.integrate import quad

from commonprior.tasks._nanomaterials import MATERIALS
from commonprior.tasks._phonons import (
    Specimens,
    bulk,
    calibrate,
    composite,
    film,
    flake,
    fuchs_sondheimer,
    spectrum,
    tube,
    wire,
)

CRYSTALS = {name: calibrate(material) for name, material in MATERIALS.items()}
SIZES = np.logspace(-9, -4, 11)


# --- against measurements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATERIALS)
def test_the_cited_conductivity_is_reproduced_with_a_plausible_grueneisen_parameter(name):
    crystal, material = CRYSTALS[name], MATERIALS[name]
    if np.isinf(material.reference_length):
        found = bulk(crystal, Specimens(300.0, 1.0))
    else:
        found = wire(crystal, Specimens(300.0, material.reference_length))
    assert found == pytest.approx(material.conductivity, rel=1e-3)
    assert 0.5 < crystal.grueneisen < 3.5


@pytest.mark.parametrize(
    ("name", "measured", "tolerance"),
    [
        # Ho, Powell & Liley (1972), recommended values at 200, 300, 400, 500 and 600 K; only 300 K was used
        ("Si", [264, 148, 98.9, 76.2, 61.9], 0.05),
        ("Ge", [96.8, 59.9, 43.2, 33.8, 27.3], 0.05),
        # 45.5 (T / 300 K)^-1.3, as device simulators tabulate it (after Sealy 1993 and Tiwari 1992)
        ("GaAs", 45.5 * (np.array([200, 300, 400, 500, 600]) / 300) ** -1.3, 0.15),
    ],
)
def test_bulk_crystals_follow_their_measured_temperature_dependence(name, measured, tolerance):
    temperature = np.array([200.0, 300, 400, 500, 600])
    assert bulk(CRYSTALS[name], Specimens(temperature, 1.0)) == pytest.approx(np.array(measured), rel=tolerance)


def test_graphite_follows_its_measured_temperature_dependence():
    # along the layers, Ho, Powell & Liley (1972) at 100, 200, 400 and 600 K
    found = bulk(CRYSTALS["graphite"], Specimens(np.array([100.0, 200, 400, 600]), 1.0))
    assert found == pytest.approx(np.array([4970, 3230, 1390, 892]), rel=0.15)


def test_silicon_nanowires_agree_with_measurement_within_a_factor_of_1_3():
    # Li et al., Appl. Phys. Lett. 83, 2934 (2003), read off its figure at 300 K
    found = wire(CRYSTALS["Si"], Specimens(300.0, np.array([115e-9, 56e-9, 37e-9])))
    assert np.all(np.abs(np.log(found / np.array([40, 26, 17]))) < np.log(1.3))


def test_a_20_nm_silicon_film_agrees_with_measurement():
    # Liu & Asheghi, Appl. Phys. Lett. 84, 3819 (2004): about 22 W m-1 K-1 at room temperature
    assert film(CRYSTALS["Si"], Specimens(300.0, 20e-9)) == pytest.approx(22, rel=0.25)


def test_a_single_wall_nanotube_agrees_within_a_factor_of_2_though_a_multi_wall_one_was_the_reference():
    # Pop et al., Nano Lett. 6, 96 (2006): 3500 W m-1 K-1 at 2.6 um and 1.7 nm
    found = tube(CRYSTALS["CNT"], Specimens(300.0, 1.7e-9, 2.6e-6))
    assert abs(np.log(found / 3500)) < np.log(2)


def test_the_isotope_rate_of_silicon_is_that_of_holland():
    # A = 1.32e-45 s^3 with an average velocity of 6400 m s-1 (Holland 1963, table I)
    silicon = MATERIALS["Si"]
    assert silicon.cell / 2 * silicon.isotopes / (4 * np.pi * 6400**3) == pytest.approx(1.32e-45, rel=0.15)


def test_the_interlayer_cut_off_of_graphite_is_that_of_klemens():
    # 4 THz (Klemens & Pedraza 1994)
    graphite = MATERIALS["graphite"]
    assert 2 * graphite.axial / graphite.spacing / (2 * np.pi) == pytest.approx(4e12, rel=0.05)


# --- against the integral, written out again --------------------------------------------------------------------------


def by_quad(name, temperature, width):
    """Integrate over the wave number what _phonons sums: wires of natural isotopes with rough walls."""
    crystal, material = CRYSTALS[name], MATERIALS[name]
    solid = material.structure == "crystal"
    edge = (6 * np.pi**2 / material.cell) ** (1 / 3) if solid else np.sqrt(4 * np.pi / material.cell)
    total = 0.0
    for sound, degeneracy in material.branches:
        top = 2 / np.pi * sound * edge
        knee = top if solid else 2 * material.axial / material.spacing

        def integrand(k, sound=sound, top=top, knee=knee):
            omega, speed = top * np.sin(np.pi * k / 2 / edge), sound * np.cos(np.pi * k / 2 / edge)
            x = hbar * omega / boltzmann / temperature
            heat = boltzmann * x**2 * np.exp(x) / np.expm1(x) ** 2
            variance = material.isotopes * material.cell / material.atoms
            if solid:
                modes, isotopes = k**2 / 2 / np.pi**2 / 3, variance * omega**4 / 4 / np.pi / sound**3
            else:
                modes = k / 2 / np.pi / material.spacing / 2 * min(1, omega / knee)
                isotopes = variance * omega**3 / 4 / sound**2
            strength = boltzmann * crystal.grueneisen**2 / (material.mass * 1.66053907e-27 * sound**2 * top)
            umklapp = strength * omega**2 * temperature * np.exp(-hbar * knee / boltzmann / 3 / temperature)
            return modes * heat * speed**2 / (umklapp + isotopes + speed / width)

        corner = 2 / np.pi * edge * np.arcsin(min(1, knee / top))
        total += degeneracy * quad(integrand, 0, edge, points=[corner], epsrel=1e-10, limit=200)[0]
    return total


@pytest.mark.parametrize("name", ["Si", "Bi2Te3", "graphite", "MoS2"])
def test_the_quadrature_agrees_with_scipy(name):
    for temperature, width in ((80, 1e-5), (300, 1e-8), (600, 1e-6)):
        assert wire(CRYSTALS[name], Specimens(float(temperature), width)) == pytest.approx(
            by_quad(name, temperature, width), rel=1e-7
        )


@pytest.mark.parametrize("specularity", [0.0, 0.3, 0.9])
def test_fuchs_sondheimer_agrees_with_scipy(specularity):
    for d in (1e-2, 0.3, 1.0, 30.0):

        def lost(t, d=d):
            return (t**-3 - t**-5) * (1 - np.exp(-d * t)) / (1 - specularity * np.exp(-d * t))

        expected = 1 - 1.5 / d * (1 - specularity) * quad(lost, 1, np.inf, epsabs=1e-12, limit=500)[0]
        assert fuchs_sondheimer(np.array(d), np.array(specularity)) == pytest.approx(expected, rel=1e-3)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATERIALS)
@pytest.mark.parametrize("shape", [film, wire, flake])
def test_a_huge_piece_is_bulk_and_a_mirror_hides_the_surface(name, shape):
    temperature = np.array([80.0, 300, 600])
    whole = bulk(CRYSTALS[name], Specimens(temperature, 1.0))
    assert shape(CRYSTALS[name], Specimens(temperature, 1e3)) == pytest.approx(whole, rel=1e-3)
    assert shape(CRYSTALS[name], Specimens(temperature, 1e-8, specularity=1.0)) == pytest.approx(whole, rel=1e-9)


def test_a_huge_tube_is_bulk():
    crystal = CRYSTALS["WS2"]
    assert tube(crystal, Specimens(300.0, 1.0, 1e3)) == pytest.approx(bulk(crystal, Specimens(300.0, 1.0)), rel=1e-3)


@pytest.mark.parametrize("name", ["Ge", "MoS2"])
def test_conductivity_grows_with_size_length_and_mirrors_and_falls_with_disorder(name):
    crystal = CRYSTALS[name]
    for shape in (film, wire, flake):
        assert np.all(np.diff(shape(crystal, Specimens(300.0, SIZES))) > 0)
        assert np.all(np.diff(shape(crystal, Specimens(300.0, 1e-7, specularity=np.linspace(0, 1, 9)))) > 0)
        assert np.all(np.diff(shape(crystal, Specimens(300.0, 1e-7, defects=np.logspace(-6, -2, 9)))) < 0)
        assert np.all(np.diff(shape(crystal, Specimens(300.0, 1e-7, isotopes=np.linspace(0, 2, 9)))) < 0)
    assert np.all(np.diff(tube(CRYSTALS["MoS2"], Specimens(300.0, 5e-9, SIZES))) > 0)
    assert np.all(np.diff(tube(CRYSTALS["MoS2"], Specimens(300.0, SIZES, 1e-6))) >= 0)


def test_a_half_silvered_wire_is_a_wider_rough_one():
    # mean distance between diffuse reflections: d (1 + p) / (1 - p) (Ziman, Electrons and Phonons, 1960)
    silvered = wire(CRYSTALS["Ge"], Specimens(300.0, 1e-7, specularity=0.5))
    assert silvered == pytest.approx(wire(CRYSTALS["Ge"], Specimens(300.0, 3e-7)), rel=1e-12)


def test_a_tube_is_a_flake_of_its_length_weakened_by_curvature():
    crystal, length = CRYSTALS["CNT"], np.array([1e-7, 1e-6])
    sheet = flake(crystal, Specimens(300.0, length))
    weakened = 1 - np.exp(-0.185 * 2e-9 / 2.461e-10)  # Cao & Qu (2012)
    assert tube(crystal, Specimens(300.0, 2e-9, length)) == pytest.approx(weakened * sheet, rel=1e-12)


def test_a_cold_thin_crystal_conducts_as_the_third_power_of_temperature():
    cold = wire(CRYSTALS["Si"], Specimens(np.array([5.0, 10.0]), 1e-7))
    assert np.log2(cold[1] / cold[0]) == pytest.approx(3, abs=0.05)


def test_short_flakes_are_ballistic():
    short = flake(CRYSTALS["graphene"], Specimens(300.0, np.array([1e-9, 2e-9])))
    assert short[1] / short[0] == pytest.approx(2, rel=0.01)


def test_composites_follow_hasselman_and_johnson():
    crystal, radius, f, matrix, resistance = CRYSTALS["Si"], 1e-6, 0.3, 1.4, 3e-8
    p = wire(crystal, Specimens(300.0, 2 * radius)) / matrix
    r = p * matrix * resistance / radius  # as they print it
    printed = matrix * (2 * (p - r - 1) * f + p + 2 * r + 2) / ((1 - p + r) * f + p + 2 * r + 2)
    found = composite(crystal, Specimens(300.0, radius, fraction=f, matrix=matrix, resistance=resistance))
    assert found == pytest.approx(printed, rel=1e-12)


def test_composites_without_particles_are_matrix_and_without_matrix_are_particles():
    crystal = CRYSTALS["Si"]
    assert composite(crystal, Specimens(300.0, 1e-7, matrix=1.4, resistance=1e-8)) == pytest.approx(1.4, rel=1e-12)
    full = composite(crystal, Specimens(300.0, 1e-7, fraction=1.0, matrix=1.4))
    assert full == pytest.approx(wire(crystal, Specimens(300.0, 2e-7)), rel=1e-12)


def test_particles_help_only_above_the_kapitza_radius():
    # Nan et al. (1997): conductivities cross where R = a (1 / matrix - 1 / particle)
    crystal, radius, matrix = CRYSTALS["Si"], 1e-7, 1.4
    critical = radius * (1 / matrix - 1 / wire(crystal, Specimens(300.0, 2 * radius))[0])
    fractions = np.linspace(0, 0.5, 6)

    def along(resistance):
        return composite(crystal, Specimens(300.0, radius, fraction=fractions, matrix=matrix, resistance=resistance))

    assert along(critical) == pytest.approx(matrix, rel=1e-9)
    assert np.all(np.diff(along(0.5 * critical)) > 0)
    assert np.all(np.diff(along(2 * critical)) < 0)


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_table_of_constants_in_the_documentation_is_that_of_the_code():
    text = (Path(__file__).parents[2] / "docs" / "nanothermal.md").read_text(encoding="utf-8")
    rows = {cells[0]: cells for cells in (re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines())}
    for name, crystal in CRYSTALS.items():
        material = crystal.material
        sounds = [f"{sound:.0f}" for sound, _ in material.branches]
        numbers = [", ".join(sounds), f"{1e4 * material.isotopes:.2f}", f"{material.conductivity:g}"]
        assert rows[name][1:5] == [*numbers, f"{crystal.grueneisen:.2f}"]


def test_every_constant_has_a_source():
    for material in MATERIALS.values():
        for source in (material.velocity_source, material.conductivity_source):
            assert re.search(r"\d{4}|order of magnitude|Ioffe", source)
    assert all(np.all(np.isfinite(field)) for m in MATERIALS.values() for field in spectrum(m))
