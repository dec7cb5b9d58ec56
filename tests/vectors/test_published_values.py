"""Values computed by other people's code (eth-account 0.13.7, contracts on a chain), written here by hand."""

from __future__ import annotations

import pytest

from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.eip712 import (
    RECEIVE_WITH_AUTHORIZATION,
    TRANSFER_WITH_AUTHORIZATION,
    domain_separator,
    hash_struct,
    transfer_digest,
    type_hash,
    typed_digest,
    word_address,
    word_uint,
)
from micropaywall.crypto.keccak import keccak256
from micropaywall.crypto.secp256k1 import PrivateKey, recover_address_bytes

PAYER = PrivateKey(bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))
FACILITATOR = PrivateKey(bytes.fromhex("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"))
PAYEE = parse_address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
USDC = parse_address("0x036CbD53842c5426634e7929541eC2318f3dCF7e")
PERMIT2 = parse_address("0x000000000022D473030F116dDEE9F6B43aC78BA3")
EXACT_PROXY = parse_address("0x402085c248EeA27D92E8b30b2C58ed07f9E20001")
UPTO_PROXY = parse_address("0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002")
BATCH_SETTLEMENT = parse_address("0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003")
COLLECTOR = parse_address("0x4020806089470a89826cB9fB1f4059150b550004")
CHAIN = 84_532
DEADLINE = 1_800_000_300

USDC_DOMAIN = domain_separator("USDC", "2", CHAIN, USDC)
PERMIT2_DOMAIN = domain_separator("Permit2", None, CHAIN, PERMIT2)
CHANNEL_DOMAIN = domain_separator("x402 Batch Settlement", "1", CHAIN, BATCH_SETTLEMENT)

CHANNEL_CONFIG = (
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,"
    "address token,uint40 withdrawDelay,bytes32 salt)"
)
TOKEN_PERMISSIONS = "TokenPermissions(address token,uint256 amount)"
PERMIT_TRANSFER = (
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)"
    + TOKEN_PERMISSIONS
)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_keccak_has_the_padding_of_ethereum(data, digest):
    assert keccak256(data).hex() == digest


@pytest.mark.parametrize(
    "text",
    [  # EIP-55, section "Test Cases"
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_addresses_have_the_mixed_case_of_eip_55(text):
    assert to_checksum(parse_address(text.lower())) == text


@pytest.mark.parametrize(
    ("encoded_type", "expected"),
    [
        (
            CHANNEL_CONFIG,
            "1c9a06ceab9b0ebbd3301dc56c9111bb6d9af421356dc9ccb3b7084c755db308",
        ),
        (
            "Voucher(bytes32 channelId,uint128 maxClaimableAmount)",
            "1e1bd6ff84c3e0d9029a292b212e039c0ca97ec497c55191a4a5874294609a69",
        ),
        (
            PERMIT_TRANSFER + "Witness(address to,uint256 validAfter)",
            "ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7",
        ),
        (
            PERMIT_TRANSFER + "Witness(address to,address facilitator,uint256 validAfter)",
            "51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee",
        ),
    ],
)
def test_type_hashes(encoded_type, expected):
    assert type_hash(encoded_type).hex() == expected


def test_type_hashes_of_eip_3009():
    assert TRANSFER_WITH_AUTHORIZATION.hex() == "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"
    assert RECEIVE_WITH_AUTHORIZATION.hex() == "d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8"


def test_domain_separators_with_and_without_a_version():
    assert USDC_DOMAIN.hex() == "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"
    assert PERMIT2_DOMAIN.hex() == "010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c"
    assert CHANNEL_DOMAIN.hex() == "fdef80764086b1e0fc6ba99f0cb9aa1d59109fda7c23d60334c89d2de44dffce"


def test_digest_and_signature_of_an_exact_payment():
    digest = transfer_digest(USDC_DOMAIN, PAYER.address_bytes, PAYEE, 10_000, 0, DEADLINE, b"\x01" * 32)
    assert digest.hex() == "9409bd466f886e2ccf68f8ffdc377d0b8cbc8775d807b2b5fad1e02e5f1ddfff"
    signature = bytes.fromhex(
        "90eb50e55939559c02598a93807f7733be3d2526935e07d5dbf1fdbcdd9f7a40"
        "136b9704ed2e2c927a7c3d3e3cb304313d8b12af8091aece9444ab71d543fde21c"
    )
    assert PAYER.sign_digest(digest) == signature
    assert recover_address_bytes(digest, signature) == PAYER.address_bytes
    assert PAYER.address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def test_transfer_digest_is_the_struct_written_out():
    struct = hash_struct(
        TRANSFER_WITH_AUTHORIZATION,
        word_address(PAYER.address_bytes),
        word_address(PAYEE),
        word_uint(10_000),
        word_uint(0),
        word_uint(DEADLINE),
        b"\x01" * 32,
    )
    by_hand = transfer_digest(USDC_DOMAIN, PAYER.address_bytes, PAYEE, 10_000, 0, DEADLINE, b"\x01" * 32)
    assert typed_digest(USDC_DOMAIN, struct) == by_hand


def _permitted(amount):
    return hash_struct(type_hash(TOKEN_PERMISSIONS), word_address(USDC), word_uint(amount))


def test_nested_structs_of_permit2():
    witness = hash_struct(type_hash("Witness(address to,uint256 validAfter)"), word_address(PAYEE), word_uint(0))
    struct = hash_struct(
        type_hash(PERMIT_TRANSFER + "Witness(address to,uint256 validAfter)"),
        _permitted(10_000),
        word_address(EXACT_PROXY),
        word_uint(42),
        word_uint(DEADLINE),
        witness,
    )
    digest = typed_digest(PERMIT2_DOMAIN, struct)
    assert digest.hex() == "dbd506d90aefe105633b52caaab2e2dc3c4944ec19b58ae2e54a5981ef35f5d7"
    assert PAYER.sign_digest(digest).hex() == (
        "3b127d9568bef909370bad2c238634196ae51fc4634c04504adb6eb1c8ebaf6d"
        "5ae64dba63ef623747c4c635dfbf1474049093f41a20b0589975abdc36080e0c1c"
    )


def test_nested_structs_of_permit2_with_a_facilitator():
    witness = "Witness(address to,address facilitator,uint256 validAfter)"
    struct = hash_struct(
        type_hash(PERMIT_TRANSFER + witness),
        _permitted(5_000_000),
        word_address(UPTO_PROXY),
        word_uint(42),
        word_uint(DEADLINE),
        hash_struct(type_hash(witness), word_address(PAYEE), word_address(FACILITATOR.address_bytes), word_uint(0)),
    )
    digest = typed_digest(PERMIT2_DOMAIN, struct)
    assert digest.hex() == "335e1420a3812b557d80158daa2e0ff6c117492dd8925a8724dbc5b8186e0d17"


def test_permit_of_eip_2612():
    struct = hash_struct(
        type_hash("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
        word_address(PAYER.address_bytes),
        word_address(PERMIT2),
        word_uint(10_000),
        word_uint(0),
        word_uint(DEADLINE),
    )
    digest = typed_digest(USDC_DOMAIN, struct)
    assert digest.hex() == "39da1b3001337d06034750af3728cd8ade0d52a364d6726f85627594c5281442"
    assert PAYER.sign_digest(digest)[-1] == 27


def test_voucher_of_a_channel():
    channel = bytes.fromhex("29ccd7626a1289e60f2284c95763b20cf4a944f591a4f613133e6cf22eb9196d")
    struct = hash_struct(type_hash("Voucher(bytes32 channelId,uint128 maxClaimableAmount)"), channel, word_uint(1_000))
    assert typed_digest(CHANNEL_DOMAIN, struct).hex() == (
        "beb0e53efa76256c494cc2640bca70e7002e826b27091240a3af90066a676366"
    )


def test_authorization_that_a_collector_receives():
    nonce = bytes.fromhex("cc5c779746e1f5190bfa4ce3b09be51e32f62b4a69d170a282cdc055cc9d609a")
    struct = hash_struct(
        RECEIVE_WITH_AUTHORIZATION,
        word_address(PAYER.address_bytes),
        word_address(COLLECTOR),
        word_uint(10_000),
        word_uint(0),
        word_uint(DEADLINE),
        nonce,
    )
    assert typed_digest(USDC_DOMAIN, struct).hex() == (
        "4ec049773ce86fa9e9f8e13233739f6689c91fbb0f5f7d957d356a5d78ddde32"
    )
