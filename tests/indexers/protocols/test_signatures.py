from __future__ import annotations

import pytest

from indexers.protocols import abitypes, signatures

WITHDRAWAL = {
    "IStrategy": "interface",
    "Withdrawal": (
        "struct { address staker; address delegatedTo; address withdrawer; uint256 nonce; uint32 startBlock; "
        "IStrategy[] strategies; uint256[] scaledShares; }"
    ),
    "ThawRequestType": "enum { Provision, Delegation }",
    "Shares": "uint256",
}

TOPICS = {
    "event Bond(address indexed newDelegate, address indexed oldDelegate, address indexed delegator, uint256 additionalAmount, "
    "uint256 bondedAmount)": "e5917769",
    "event ShareMinted(uint256 indexed validatorId, address indexed user, uint256 indexed amount, uint256 tokens)": "c9afff09",
    "event Delegated(address indexed operatorAddress, address indexed delegator, uint256 shares, uint256 bnbAmount)": "24d7bda8",
    "event TokensDelegated(address indexed serviceProvider, address indexed verifier, address indexed delegator, uint256 tokens, "
    "uint256 shares)": "237818af",
    "event ThawRequestCreated(ThawRequestType indexed requestType, address indexed serviceProvider, address indexed verifier, "
    "address owner, uint256 shares, uint64 thawingUntil, bytes32 thawRequestId, uint256 nonce)": "036538df",
    "event SlashingWithdrawalQueued(bytes32 withdrawalRoot, Withdrawal withdrawal, uint256[] sharesToWithdraw)": "26b2aae2",
    "event TokenRebased(uint256 indexed reportTimestamp, uint256 timeElapsed, uint256 preTotalShares, uint256 preTotalEther, "
    "uint256 postTotalShares, uint256 postTotalEther, uint256 sharesMintedAsFees)": "ff08c3ef",
    "event DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index)": "649bbc62",
    # the best-known topic there is
    "event Transfer(address indexed from, address indexed to, uint value)": "ddf252ad",
}

SELECTORS = {
    "function delegate(address operatorAddress, bool delegateVotePower) payable": "982ef0a7",
    "function delegate(address serviceProvider, address verifier, uint256 tokens, uint256 minSharesOut)": "6230001a",
    "function deposit(bytes pubkey, bytes withdrawal_credentials, bytes signature, bytes32 deposit_data_root) payable": "22895118",
    "function transfer(address to, uint amount) external returns (bool)": "a9059cbb",
    "function delegateTo(address operator, (bytes signature, uint256 expiry) approverSignatureAndExpiry, bytes32 salt)": "eea9064b",
}


@pytest.mark.parametrize(("text", "prefix"), TOPICS.items(), ids=list(TOPICS.values()))
def test_the_first_topic_is_the_one_on_chain(text: str, prefix: str) -> None:
    assert signatures.parse(text, signatures.Types(WITHDRAWAL)).topic0.hex().startswith(prefix)


@pytest.mark.parametrize(("text", "selector"), SELECTORS.items(), ids=list(SELECTORS.values()))
def test_the_selector_is_the_one_on_chain(text: str, selector: str) -> None:
    assert signatures.parse(text).selector.hex() == selector


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("event E(uint a, int b, byte c)", "E(uint256,int256,bytes1)"),
        ("event E(ThawRequestType a, Shares b, IStrategy c)", "E(uint8,uint256,address)"),
        ("event E(Withdrawal[2][] a)", "E((address,address,address,uint256,uint32,address[],uint256[])[2][])"),
        (
            "function f(address payable to, string calldata s, tuple(uint a, bool) t) public view",
            "f(address,string,(uint256,bool))",
        ),
        ("event E ( ) ;", "E()"),
    ],
)
def test_declared_and_short_types_become_what_the_chain_hashes(text: str, canonical: str) -> None:
    assert signatures.parse(text, signatures.Types(WITHDRAWAL)).canonical == canonical


def test_a_struct_keeps_the_names_of_its_components() -> None:
    event = signatures.parse("event E(Withdrawal withdrawal)", signatures.Types(WITHDRAWAL))
    found = abitypes.resolve(event.inputs, "withdrawal.strategies[3]")
    assert found is not None
    assert (found.canonical, found.declared) == ("address", "IStrategy")
    assert abitypes.resolve(event.inputs, "withdrawal.nobody") is None
    assert abitypes.resolve(event.inputs, "withdrawal..staker") is None


def test_unnamed_parameters_are_called_by_their_index() -> None:
    event = signatures.parse("event RPLStaked(address indexed from, uint256, uint256)")
    assert [p.name for p in event.inputs] == ["from", "arg1", "arg2"]


def test_a_function_keeps_its_mutability_and_results() -> None:
    function = signatures.parse(
        "function undelegate(address v, uint256 shares) external payable returns (bytes32 id, uint)"
    )
    assert function.mutability == "payable"
    assert [p.type.canonical for p in function.outputs] == ["bytes32", "uint256"]


def test_packed_fields_may_be_longer_than_a_word() -> None:
    packed = signatures.parse("packed(address caller, bytes48 pubkey, uint64 amount)")
    assert [p.type.size for p in packed.inputs] == [0, 48, 64]
    with pytest.raises(ValueError, match="no topic"):
        _ = packed.topic0


WRONG = {
    "Delegated(address validator)": ("begins with event, function or packed", 1),
    "event E(adress validator)": ("did you mean address", 9),
    "event E(uint12 a)": ("uint8 to uint256 in steps of 8", 9),
    "event E(bytes33 a)": ("bytes1 to bytes32", 9),
    "event E(uint008 a)": ("no Solidity type", 9),
    "event E(Thing a)": ("declare it under [types]", 9),
    "event E(address a": ("add `,`", 18),
    "event E(address a!)": ("remove it", 18),
    "event E(address a) b": ("follows the end", 20),
    "event E(address a, uint a)": ("two parameters are called a", 27),
    "event E(uint indexed a, uint indexed b, uint indexed c, uint indexed d)": ("at most three indexed", 8),
    "event E(uint a) anonymous": ("packed", 26),
    "event E(uint[0] a)": ("length is a number", 14),
    "event E(() a)": ("at least one component", 9),
    "function f(uint indexed a)": ("only an event's own parameters", 17),
    "packed(string s)": ("no packed form", 8),
    "event E(" + "(" * 5000: ("nest deeper", 17),
    "event E(uint" + "[]" * 5000 + " a)": ("nest deeper", 28),
    "event E(uint a\0)": ("no place in a signature", 15),
    "": ("is needed", 1),
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_signature_is_refused_with_its_position_and_cure(text: str) -> None:
    expected, position = WRONG[text]
    with pytest.raises(signatures.BadSignature) as caught:
        signatures.parse(text)
    assert expected in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("declarations", "expected"),
    [
        ({"A": "struct { B b; }", "B": "struct { A a; }"}, "contains itself"),
        ({"A": "enum { X, X }"}, "distinct members"),
        ({"A": "enum { }"}, "1 to 256"),
        ({"A": "struct { }"}, "at least one field"),
        ({"A": "struct { uint a; uint a; }"}, "two parameters are called a"),
        ({"A": "struct { uint a }"}, "add `;`"),
        ({"A": "interface {}"}, "follows the end"),
    ],
)
def test_a_wrong_declaration_is_refused(declarations: dict[str, str], expected: str) -> None:
    with pytest.raises(signatures.BadSignature, match=expected):
        signatures.Types(declarations).resolve("A")
