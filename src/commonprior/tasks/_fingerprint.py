"""Molecules as Morgan count fingerprints (Rogers and Hahn 2010, extended-connectivity fingerprints), by RDKit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from commonprior.errors import DataError

RADIUS = 2
"""Bonds around an atom that one feature may reach: the usual ECFP4."""

_NEON = 10


def morgan(slots: int) -> Callable[[str], Mapping[int, float]]:
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
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=slots)
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
                features = generator.GetCountFingerprint(molecule).GetNonzeroElements()
            except ValueError:
                raise
            except Exception as error:  # C++ exceptions of RDKit reach Python as half a dozen types
                raise ValueError(f"RDKit cannot read it as SMILES ({type(error).__name__})") from None
        if not features:
            raise ValueError("it has no atoms")
        return features

    return counts
