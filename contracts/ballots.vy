# pragma version 0.4.3
"""
@title Ballots: EIP-712 messages by which members consent to one change of one prior
@notice A ballot names its run, round and attempt, so that an honest retry is no second vote, the prior that the change
    starts from, the one that it makes, the hash of the record about it, and what else is voted on: the contributors
    whose updates are averaged, in this order, or the terms of the run. `scores` has a byte for each contributor: 0 says
    that its update is not legitimate, 1 to 255 how well it did on the voter's own held-out tasks.
"""

MOST_BALLOTS: constant(uint256) = 64

DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
BALLOT: constant(bytes32) = keccak256(
    "Ballot(bytes32 run,uint256 round,uint256 attempt,bytes32 base,bytes32 prior,bytes32 entry,bytes32 subject,bytes scores)"
)
NAME: constant(bytes32) = keccak256("commonprior")
VERSION: constant(bytes32) = keccak256("1")
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


struct Question:
    run: bytes32
    round: uint256
    attempt: uint256
    base: bytes32
    prior: bytes32
    entry: bytes32
    subject: bytes32


@internal
@view
def domain(counter: address) -> bytes32:
    """
    @notice Return what binds a ballot to the contract that counts it, on this chain.
    """
    return keccak256(abi_encode(DOMAIN, NAME, VERSION, chain.id, counter))


@internal
@view
def digest(domain: bytes32, question: Question, scores: bytes32) -> bytes32:
    """
    @notice Return what a voter signs; `scores` is the hash of its scores.
    """
    inner: bytes32 = keccak256(abi_encode(BALLOT, question, scores))
    return keccak256(concat(b"\x19\x01", domain, inner))


@internal
@pure
def signer(digest: bytes32, signature: Bytes[65]) -> address:
    """
    @notice Return who made a signature (r, s, v); only the form with the lower s counts.
    """
    assert len(signature) == 65, "B: form"
    s: uint256 = convert(extract32(signature, 32), uint256)
    assert s <= HALF_ORDER, "B: form"
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    who: address = ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)
    assert who != empty(address), "B: signature"
    return who
