"""Fingerprints of very many molecules: computed once, on every core, and kept in the user's cache folder.

A cached file is named by everything that its content follows from: the bytes of the file that the molecules come from,
the fingerprint, RDKit's version. It holds plain numpy arrays, is never unpickled, and is computed anew where it cannot
be read or does not fit.
"""

from __future__ import annotations

import array
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from commonprior.errors import DataError
from commonprior.tasks._cells import shown
from commonprior.tasks._fingerprint import RADIUS, morgan, reader

_VERSION = 1

_MOST = 255
"""A count ends here, where uint8 does: no fragment is as often in a molecule of 900 Da."""

_FEWEST = 4000
"""Molecules that a further process is worth starting for: about a second of work."""


class _Counts(NamedTuple):
    """Slots [c] int32 and amounts [c] uint8 of n molecules, one after the other; each has `lengths` [n] of them."""

    slots: np.ndarray
    amounts: np.ndarray
    lengths: np.ndarray

    def pack(self) -> bytes:
        """Return an .npz."""
        out = io.BytesIO()
        np.savez(out, slots=self.slots, amounts=self.amounts, lengths=self.lengths)
        return out.getvalue()

    def fits(self, molecules: int, slots: int) -> bool:
        """Whether these are counts of so many molecules in so many slots."""
        return (
            [a.dtype for a in self] == [np.int32, np.uint8, np.int32]
            and all(a.ndim == 1 for a in self)
            and len(self.lengths) == molecules
            and len(self.slots) == len(self.amounts) == int(self.lengths.sum(dtype=np.int64))
            and bool((self.lengths > 0).all())
            and bool(((self.slots >= 0) & (self.slots < slots)).all())
        )


Kind: TypeAlias = tuple[Literal["morgan", "mixed"], int]
"""A fingerprint and its slots."""


def fingerprints(smiles: Sequence[str], kind: Kind, content: bytes, path: str) -> csr_array:
    """Return the counts [n + 1, slots] uint8 of n distinct molecules, from the cache where it has them.

    Row 0 is empty and stands for "unknown". `content` are the bytes of the file at `path` that the molecules are from.
    Raises `DataError` with the first text that is no molecule.
    """
    _, slots = kind
    file = _folder() / f"{_key(content, kind)}.npz"
    counts = _cached(file)
    if counts is None or not counts.fits(len(smiles), slots):
        counts = _computed(smiles, kind, path)
        _keep(file, counts.pack())
    starts = np.concatenate([[0, 0], np.cumsum(counts.lengths)]).astype(np.int32)
    return csr_array((counts.amounts, counts.slots, starts), shape=(len(smiles) + 1, slots))


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "commonprior" / "fingerprints"


def _key(content: bytes, kind: Kind) -> str:
    from rdkit import rdBase

    name, slots = kind
    said = f"commonprior/fingerprints/{_VERSION}, {name}, radius {RADIUS}, slots {slots}, rdkit {rdBase.rdkitVersion}"
    return hashlib.sha256(hashlib.sha256(said.encode()).digest() + hashlib.sha256(content).digest()).hexdigest()


def _cached(file: Path) -> _Counts | None:
    try:
        return _unpacked(file.read_bytes())
    except OSError:
        return None


def _unpacked(data: bytes) -> _Counts | None:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _Counts(arrays["slots"], arrays["amounts"], arrays["lengths"])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None


def _keep(file: Path, data: bytes) -> None:
    """Write a cached file, whole or not at all; one that cannot be written costs the next start its time, no more."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two runs may compute the same file at the same time.
        handle, partial = tempfile.mkstemp(dir=file.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            Path(partial).replace(file)
        except OSError:
            Path(partial).unlink(missing_ok=True)
    except OSError:
        return


def _computed(smiles: Sequence[str], kind: Kind, path: str) -> _Counts:
    """Compute in as many processes as there are cores.

    They are programs of our own rather than multiprocessing's processes, which would run the caller's program again
    wherever that lacks the guard that multiprocessing wants.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, len(smiles) // _FEWEST)
    if processes < 2 or any("\n" in text for text in smiles):
        return _count(smiles, kind, path)

    def run(first: int, end: int) -> _Counts:
        text = "\n".join(smiles[first:end]).encode()
        command = [sys.executable, "-m", __name__, kind[0], str(kind[1]), path]
        done = subprocess.run(command, input=text, capture_output=True)
        part = _unpacked(done.stdout)
        if done.returncode or part is None or not part.fits(end - first, kind[1]):
            why = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise DataError(why.splitlines()[-1])
        return part

    bounds = [len(smiles) * i // processes for i in range(processes + 1)]
    with ThreadPoolExecutor(processes) as pool:
        parts = list(pool.map(run, bounds[:-1], bounds[1:]))
    return _Counts(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def _count(smiles: Sequence[str], kind: Kind, path: str) -> _Counts:
    look = _reader(kind[1]) if kind[0] == "morgan" else reader(*kind)
    where, amounts, lengths = array.array("i"), array.array("B"), array.array("i")
    for text in smiles:
        try:
            found = look(text)
        except ValueError as error:
            raise DataError(f"{path}: {shown(text)} is no molecule: {error}; restore the file") from None
        where.extend(found)
        amounts.extend([min(int(count), _MOST) for count in found.values()])
        lengths.append(len(found))
    return _Counts(np.array(where, np.int32), np.array(amounts, np.uint8), np.array(lengths, np.int32))


def _reader(slots: int) -> Callable[[str], Mapping[int, float]]:
    """Return a faster `morgan` for SMILES that RDKit wrote, with aromatic atoms in lower case, as the source's are.

    To perceive aromaticity in them once more changes no fingerprint and is half of the time. Wherever that way does
    not succeed, the molecule is read as those of every other source are.
    """
    careful = morgan(slots)
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=slots)

    def counts(smiles: str) -> Mapping[int, float]:
        with rdBase.BlockLogs():
            try:
                molecule = Chem.MolFromSmiles(smiles, sanitize=False)
                molecule.UpdatePropertyCache(strict=True)
                Chem.FastFindRings(molecule)
                found = generator.GetCountFingerprint(molecule).GetNonzeroElements()
            except Exception:  # C++ exceptions of RDKit reach Python as half a dozen types
                found = {}
        return found or careful(smiles)

    return counts


def _main(name: str, slots: str, path: str) -> None:
    """Read SMILES from standard input, a line each, and write their counts to standard output."""
    try:
        kind: Kind = ("mixed" if name == "mixed" else "morgan", int(slots))
        counts = _count(sys.stdin.buffer.read().decode().split("\n"), kind, path)
    except DataError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(counts.pack())


if __name__ == "__main__":
    _main(*sys.argv[1:])
