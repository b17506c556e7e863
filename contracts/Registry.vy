# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Registry: every prior that was ever agreed on, by its hash
@notice A family of models has runs; a run has a recipe and one prior a round, of which the last is its head. Whoever is
    given a prior compares its SHA-256 with `head` or `prior_of`. Only the contract that counts votes writes here.
@dev Errors begin with G.
"""

event Begun:
    run: indexed(bytes32)
    family: indexed(bytes32)
    recipe: bytes32
    prior: bytes32
    proposer: address

event Version:
    run: indexed(bytes32)
    round: indexed(uint256)
    prior: bytes32
    entry: bytes32

struct Run:
    family: bytes32
    recipe: bytes32
    proposer: address
    rounds: uint256
    head: bytes32

writer: public(immutable(address))
runs: public(HashMap[bytes32, Run])
runs_of: public(HashMap[bytes32, HashMap[uint256, bytes32]])
count_of: public(HashMap[bytes32, uint256])
prior_of: public(HashMap[bytes32, HashMap[uint256, bytes32]])


@deploy
def __init__(writer_: address):
    """
    @param writer_ The contract that counts votes.
    """
    writer = writer_


@external
def begin(run: bytes32, family: bytes32, recipe: bytes32, prior: bytes32, proposer: address):
    """
    @notice Enter a run with the prior that it starts from. `proposer` may open its rounds; nobody: any member may.
    """
    assert msg.sender == writer, "G: writer"
    assert self.runs[run].recipe == empty(bytes32), "G: begun"
    assert recipe != empty(bytes32) and prior != empty(bytes32), "G: empty"
    self.runs[run] = Run(family=family, recipe=recipe, proposer=proposer, rounds=0, head=prior)
    self.runs_of[family][self.count_of[family]] = run
    self.count_of[family] += 1
    self.prior_of[run][0] = prior
    log Begun(run=run, family=family, recipe=recipe, prior=prior, proposer=proposer)


@external
def append(run: bytes32, prior: bytes32, entry: bytes32):
    """
    @notice Enter the next round's prior, and say the hash of the record about it.
    """
    assert msg.sender == writer, "G: writer"
    assert self.runs[run].recipe != empty(bytes32), "G: unknown"
    number: uint256 = self.runs[run].rounds + 1
    self.runs[run].rounds = number
    self.runs[run].head = prior
    self.prior_of[run][number] = prior
    log Version(run=run, round=number, prior=prior, entry=entry)


@external
@view
def head(run: bytes32) -> (uint256, bytes32, address):
    """
    @notice Return how many rounds a run has, its newest prior, and who may open its rounds.
    """
    newest: bytes32 = self.runs[run].head
    assert newest != empty(bytes32), "G: unknown"
    return self.runs[run].rounds, newest, self.runs[run].proposer
