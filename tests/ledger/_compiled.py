"""Contracts that only tests need, compiled where vyper is: a door to the modules' inner functions, a hostile token."""

from hashlib import sha256
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode

from commonprior.ledger.contract import Artefact

from ._consortium import identity

HERE = Path(__file__).parent
CONTRACTS = HERE.parents[1] / "contracts"


def compiled(name):
    """The artefact of tests/ledger/NAME.vy, which may import the product's modules."""
    pytest.importorskip("vyper", reason="no vyper: contracts of the tests' own cannot be compiled")
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.settings import OptimizationLevel, Settings

    bundle = FilesystemInputBundle([HERE, CONTRACTS])
    out = compile_from_file_input(
        bundle.load_file(f"{name}.vy"), input_bundle=bundle, output_formats=["abi", "bytecode", "bytecode_runtime"],
        settings=Settings(evm_version="cancun", optimize=OptimizationLevel.GAS),
    )  # fmt: skip
    runtime = bytes.fromhex(out["bytecode_runtime"][2:])
    return Artefact({"contract": name, "bytecode": out["bytecode"][2:], "abi": out["abi"],
                     "runtime_bytes": len(runtime), "runtime_sha256": sha256(runtime).hexdigest()})  # fmt: skip


class Deployed:
    """A test's contract on a chain."""

    def __init__(self, chain, name, *values):
        self.chain, self.artefact = chain, compiled(name)
        self.address = chain.send(identity("deployer of tests"), None, self.artefact.creation(values)).output

    def read(self, function, *values):
        known = self.artefact.functions[function]
        answer = self.chain.call(self.address, known.selector + encode(known.inputs, values))
        return decode(known.outputs, answer)[0]

    def write(self, sender, function, *values):
        return self.chain.send(sender, self.address, self.artefact.functions[function].encode(values))
