"""Compile the contracts: `python contracts/build.py` writes the artefacts that the product carries, `--check` compares.

Each artefact names its compiler, the SHA-256 of every source that is in it and of its bytecode.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import vyper
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import OptimizationLevel, Settings

HERE = Path(__file__).parent
THERE = HERE.parent / "src" / "commonprior" / "ledger" / "artefacts"
CONTRACTS = ("Token", "Quorum", "Registry", "Rounds", "Disputes", "Rewards")
"""In the order in which they are deployed."""


def sources(name: str) -> dict[str, str]:
    """Return {file: SHA-256} of a contract and of the modules that it imports."""
    found, waiting = {}, [name]
    while waiting:
        file = HERE / f"{waiting.pop()}.vy"
        text = file.read_text()
        found[file.name] = hashlib.sha256(text.encode()).hexdigest()
        waiting += [m for m in re.findall(r"^import (\w+)$", text, re.MULTILINE) if f"{m}.vy" not in found]
    return dict(sorted(found.items()))


def artefact(name: str) -> dict[str, object]:
    """Return a contract's interface, its bytecode and what they were made of."""
    bundle = FilesystemInputBundle([HERE])
    out = compile_from_file_input(
        bundle.load_file(f"{name}.vy"),
        input_bundle=bundle,
        output_formats=["abi", "bytecode", "bytecode_runtime"],
        settings=Settings(evm_version="cancun", optimize=OptimizationLevel.GAS),
    )
    code = bytes.fromhex(out["bytecode"].removeprefix("0x"))
    runtime = bytes.fromhex(out["bytecode_runtime"].removeprefix("0x"))  # what is fixed at deployment follows it
    return {
        "contract": name,
        "compiler": f"vyper {vyper.__version__.split('+')[0]}, cancun, gas",
        "sources": sources(name),
        "sha256": hashlib.sha256(code).hexdigest(),
        "runtime_bytes": len(runtime),
        "runtime_sha256": hashlib.sha256(runtime).hexdigest(),
        "abi": out["abi"],
        "bytecode": code.hex(),
    }


def main() -> int:
    """Write the artefacts, or say which differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if an artefact is not what is compiled"
    )
    check, differing = parser.parse_args().check, []
    THERE.mkdir(parents=True, exist_ok=True)
    for name in CONTRACTS:
        text = json.dumps(artefact(name), indent=1, sort_keys=True) + "\n"
        file = THERE / f"{name}.json"
        if not file.exists() or file.read_text() != text:
            differing.append(name)
            if not check:
                file.write_text(text)
    sys.stdout.write(
        f"{len(CONTRACTS)} contracts, {', '.join(differing) or 'none'} {'differ' if check else 'written'}\n"
    )
    return 1 if check and differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
