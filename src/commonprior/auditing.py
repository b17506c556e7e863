"""What `audit` and `bundle` do; `cli.py` parses and this prints."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from commonprior.errors import InputError
from commonprior.ledger.audit import Verdict, audit_chain
from commonprior.ledger.audit import audit as audit_folder
from commonprior.ledger.book import node
from commonprior.ledger.rewards import CREDIT
from commonprior.ledger.rpc import Rpc
from commonprior.printing import print_pairs
from commonprior.runfolder import RunFolder

MOST_BYTES = 8 << 30
"""A bundle that unpacks to more is refused: a small file can stand for very large ones."""

_NAMES = re.compile(
    r"journal\.cbor|chain\.cbor|recipe\.toml|prior\.safetensors|checkpoints/0+\.safetensors|sums/\d+\.bin|"
    r"sealed/\d+\.cbor"
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def audit(run: Path, trust: Sequence[bytes], head: bytes | None, console: Console, out: Path | None) -> None:
    """Verify a run folder, or a bundle of one."""
    if run.suffix != ".zip":
        _show(audit_folder(run, trust, head), console, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        _unpack(run, Path(folder))
        _show(audit_folder(Path(folder), trust, head), console, out)


def audit_node(
    chain: int, contracts: Sequence[bytes], run: bytes, trust: Sequence[bytes], console: Console, out: Path | None
) -> None:
    """Verify a run from a node alone."""
    if not chain or len(contracts) != 6 or len(run) != 32 or any(len(a) != 20 for a in contracts):
        raise InputError("name a run folder, or --chain, --contracts (six addresses of 40 hex digits) and --opening "
                         "(64 hex digits): `commonprior train` prints them")  # fmt: skip
    _show(audit_chain(Rpc(node(), chain), contracts, run, trust), console, out)


def bundle(run: Path, output: Path, sealed: bool, console: Console) -> None:
    """Pack a run's record, ledger, sums, recipe and priors; never what a site or the coordinator keeps to itself.

    With `sealed` the sealed bytes and opened seeds too: whoever reads them sees what the coordinator saw of each round.
    """
    folder = RunFolder(run)
    if not folder.journal.exists():
        raise InputError(f"{folder.journal}: no record here; name a run folder")
    if output.exists():
        raise InputError(f"{output}: is there already; name another file")
    files = [f for f in (folder.journal, folder.chain, folder.recipe, folder.prior, folder.checkpoint(0)) if f.exists()]
    files += sorted((run / "sums").glob("*.bin"))
    kept = sorted((run / "sealed").glob("*.cbor")) if sealed else []
    if sealed and not kept:
        raise InputError(f"{run / 'sealed'}: the run kept no sealed bytes; leave --sealed out")
    files += kept
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            packed.write(file, file.relative_to(run).as_posix())
    console.print(f"{output}: {len(files)} files, {output.stat().st_size:,} bytes")


def _unpack(bundle: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(bundle) as packed:
            for item in packed.infolist():
                if not _NAMES.fullmatch(item.filename) or item.compress_type not in _METHODS:
                    raise InputError(f"{bundle}: holds {item.filename!r}, which no bundle does: ask for another one")
            size = sum(item.file_size for item in packed.infolist())
            if size > MOST_BYTES:
                raise InputError(f"{bundle}: would unpack to {size:,} bytes, at most {MOST_BYTES:,}")
            packed.extractall(folder)
    except FileNotFoundError:
        raise InputError(f"{bundle}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError):  # a password, a name that is no text
        raise InputError(f"{bundle}: is not a bundle: `commonprior bundle RUN FILE.zip` makes one") from None


def _show(verdict: Verdict, console: Console, out: Path | None) -> None:
    epsilon = "no differential privacy (no noise)" if verdict.epsilon < 0 else (
        f"epsilon {verdict.epsilon:.3g} at delta {verdict.delta:.0e} for one {verdict.unit}")  # fmt: skip
    rows = {
        "record": f"holds: {verdict.rounds} rounds, {verdict.recomputed} priors recomputed from their sums"
        + f", {verdict.resummed} sums from sealed bytes" * verdict.hidden,
        "ledger": verdict.ledger or "none: the sites' signatures alone",
        **(
            {
                "rewards": f"hold: {verdict.paid / CREDIT:,.6f} credits for {verdict.claims} claims, of "
                f"{verdict.funded / CREDIT:,.6f} put in"
            }
            if verdict.funded
            else {}
        ),
        "sites": ", ".join(verdict.sites),
        "privacy": epsilon,
        "prior": verdict.prior.hex(),
        "head": verdict.head.hex(),
    }
    print_pairs(console, rows)
    if out is not None:
        out.write_text(json.dumps({
            "rounds": verdict.rounds, "recomputed": verdict.recomputed,
            "resummed": verdict.resummed, "funded": verdict.funded, "paid": verdict.paid, "entered": verdict.entered,
            "ledger": verdict.ledger, "epsilon": verdict.epsilon, "head": verdict.head.hex(),
            "prior": verdict.prior.hex(),
        }) + "\n")  # fmt: skip
