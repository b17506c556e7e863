"""Molecules as count fingerprints by RDKit.

`morgan`: extended-connectivity fingerprints (Rogers and Hahn 2010). `mixed` has these in half of its slots; in a
quarter the same of what atoms do (donor, acceptor, aromatic, ...; Gobbi and Poppinger 1998), not of what they are; and
in a quarter pairs of atoms with the number of bonds between them (Carhart et al. 1985).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from commonprior.errors import DataError

RADIUS = 2
"""Bonds around an atom that one feature may reach: the usual ECFP4."""

_NEON = 10


def morgan(slots: int) -> Callable[[str], Mapping[int, float]]:
    """Return `reader("morgan", slots)`."""
    return reader("morgan", slots)


def reader(fingerprint: Literal["morgan", "mixed"], slots: int) -> Callable[[str], Mapping[int, float]]:
    """Return a function from one SMILES to its feature counts by slot; it raises `ValueError` with the reason.

    Elements beyond neon may hold more bonds than RDKit's tables allow (P in [PH](=O)(=O)); a carbon with five is
    refused. Stereochemistry does not count. Raises `DataError` where RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ModuleNotFoundError:
        raise DataError(
            "a SMILES column needs RDKit, which is not installed; run `pip install commonprior[chem]`"
        ) from None
    make = rdFingerprintGenerator
    if fingerprint == "morgan":
        parts = [(0, make.GetMorganGenerator(radius=RADIUS, fpSize=slots))]
    else:
        half, quarter, roles = slots // 2, slots // 4, make.GetMorganFeatureAtomInvGen()
        parts = [
            (0, make.GetMorganGenerator(radius=RADIUS, fpSize=half)),
            (half, make.GetMorganGenerator(radius=RADIUS, fpSize=quarter, atomInvariantsGenerator=roles)),
            (half + quarter, make.GetAtomPairGenerator(fpSize=quarter)),
        ]
    checks = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES

    def disputed(smiles: str) -> Chem.Mol:
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None:
            raise ValueError("RDKit cannot read it as SMILES")
        for problem in Chem.DetectChemistryProblems(molecule):
            heavy = (
                problem.GetType() == "AtomValenceException"
                and molecule.GetAtomWithIdx(problem.GetAtomIdx()).GetAtomicNum() > _NEON
            )
            if not heavy:
                raise ValueError(problem.Message())
        molecule.UpdatePropertyCache(strict=False)
        Chem.SanitizeMol(molecule, checks)
        Chem.FastFindRings(molecule)
        return molecule

    def counts(smiles: str) -> Mapping[int, float]:
        with rdBase.BlockLogs():  # RDKit writes its complaints to stderr; ours is the exception
            try:
                molecule = Chem.MolFromSmiles(smiles) or disputed(smiles)
                features = {
                    first + slot: count
                    for first, generator in parts
                    for slot, count in generator.GetCountFingerprint(molecule).GetNonzeroElements().items()
                }
            except ValueError:
                raise
            except Exception as error:  # C++ exceptions of RDKit reach Python as half a dozen types
                raise ValueError(f"RDKit cannot read it as SMILES ({type(error).__name__})") from None
        if not features:
            raise ValueError("it has no atoms")
        return features

    return counts
