"""``micropaywall wallet``: keys that pay."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from micropaywall.cli import parts
from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.cli.screen import Column
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.errors import ConfigurationError, PriceError, RailError, WalletError
from micropaywall.home import data_directory
from micropaywall.money import Money, parse_price
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets.passphrase import PassphraseSource, from_file, from_prompt, remember_in_keyring
from micropaywall.wallets.secret import Secret
from micropaywall.wallets.store import WalletEntry, WalletStore, key_from_hex

__all__ = ["balance", "create", "fund", "import_", "list_", "wallet"]

F = TypeVar("F", bound=Callable[..., Any])
_DEFAULT_NAME = "main"


@click.group(
    cls=LazyGroup,
    members={
        "create": Member(f"{__name__}:create", "Make a wallet with a new key, in an encrypted file."),
        "import": Member(f"{__name__}:import_", "Keep a key or a keystore file of another program."),
        "list": Member(f"{__name__}:list_", "The wallets of this user."),
        "balance": Member(f"{__name__}:balance", "What wallets or addresses have on the sandbox network."),
        "fund": Member(f"{__name__}:fund", "Sandbox money from the faucet."),
    },
)
def wallet() -> None:
    """Wallets: keys that sign payments, each in a keystore file (Ethereum V3) under a passphrase.

    The sandbox wallet is made by itself on first use; it holds play money and signs for nothing else.
    """


def _passphrase_options(command: F) -> F:
    file = click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Take the passphrase from the first line of a file that only you can read.",
    )
    keyring = click.option(
        "--keyring",
        is_flag=True,
        help="Make a random passphrase and keep it in the keyring of the operating system.",
    )
    default = click.option("--default", "as_default", is_flag=True, help="Pay from this wallet when none is named.")
    return file(keyring(default(command)))


@click.command()
@click.argument("name", default=_DEFAULT_NAME)
@_passphrase_options
@json_option
def create(out: Output, name: str, passphrase_file: Path | None, keyring: bool, as_default: bool) -> None:
    """Make a wallet called NAME (default: main) with a new key.

    The key is written only encrypted. Keep the file and the passphrase: without either the money is lost.
    """
    store = WalletStore(data_directory())
    entry = store.create(name, _new_passphrase(store, name, passphrase_file, keyring))
    _made(out, store, entry, as_default=as_default, verb="created")


@click.command("import")
@click.argument("name")
@click.option(
    "--keystore",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A keystore file (version 3) of another wallet; it is kept as it is, with its passphrase.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="A file with the secret key in hex, or - for standard input. Without it the key is asked for.",
)
@_passphrase_options
@json_option
def import_(
    out: Output,
    name: str,
    keystore: Path | None,
    key_file: Path | None,
    passphrase_file: Path | None,
    keyring: bool,
    as_default: bool,
) -> None:
    """Keep a key that exists, as a wallet called NAME.

    A key is never taken from the command line, where other users of the machine and the shell's history would see it.
    """
    store = WalletStore(data_directory())
    if keystore is not None:
        from micropaywall.wallets.keystore import read_file

        passphrase = _needed((from_file(passphrase_file) if passphrase_file else from_prompt())(name))
        entry = store.add_keystore(name, read_file(keystore), passphrase)
    else:
        key = key_from_hex(_secret_key(key_file))
        entry = store.add(name, key, _new_passphrase(store, name, passphrase_file, keyring))
    _made(out, store, entry, as_default=as_default, verb="imported")


def _secret_key(key_file: Path | None) -> Secret[str]:
    if key_file is None:
        if not sys.stdin.isatty():
            raise WalletError("there is no key", expected="--key-file FILE, --key-file - or a terminal to ask at")
        return Secret(click.prompt("Secret key (hex)", hide_input=True, err=True))
    if str(key_file) == "-":
        return Secret(sys.stdin.readline().strip())
    source = from_file(key_file)("key")
    return Secret("") if source is None else source


def _new_passphrase(store: WalletStore, name: str, passphrase_file: Path | None, keyring: bool) -> Secret[str]:
    if keyring and passphrase_file:
        raise ConfigurationError("--keyring and --passphrase-file are two places for one passphrase")
    if keyring:
        if any(entry.name == name for entry in store.entries()):
            raise WalletError(f"there is a wallet called {name!r} already", hint="Choose another name.")
        passphrase = Secret(secrets.token_urlsafe(32))
        remember_in_keyring(name, passphrase)  # before the wallet is written: a wallet without passphrase is lost
        return passphrase
    source: PassphraseSource = from_file(passphrase_file) if passphrase_file else from_prompt(confirm=True)
    return _needed(source(name))


def _needed(passphrase: Secret[str] | None) -> Secret[str]:
    if not passphrase:
        raise WalletError(
            "there is no passphrase for the wallet",
            expected="--passphrase-file FILE, --keyring, or a terminal to ask at",
        )
    return passphrase


def _made(out: Output, store: WalletStore, entry: WalletEntry, *, as_default: bool, verb: str) -> None:
    if as_default:
        store.set_default(entry.name)
        entry = store.entry(entry.name)
    out.document(_document(entry))
    out.check(True, f"wallet {entry.name!r} {verb}")
    out.pairs([("address", entry.address or "?"), ("file", str(entry.path))])
    if not entry.default:
        out.remark()
        out.remark(f"To pay from it: micropaywall get --wallet {entry.name} URL", "dim")


def _document(entry: WalletEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "address": entry.address,
        "sandboxOnly": entry.sandbox_only,
        "default": entry.default,
        "file": str(entry.path),
    }


@click.command("list")
@json_option
def list_(out: Output) -> None:
    """The wallets of this user; the one that pays when none is named is marked."""
    entries = WalletStore(data_directory(create=False)).entries()
    out.document([_document(entry) for entry in entries])
    if not entries:
        out.say("There is no wallet yet. The sandbox wallet is made when you first pay: micropaywall demo")
        return
    out.table(
        [Column("wallet"), Column("address", keep="both"), Column("for"), Column("")],
        [
            (
                entry.name,
                entry.address or "(the file is no keystore)",
                "sandbox only" if entry.sandbox_only else "any network",
                "default" if entry.default else "",
            )
            for entry in entries
        ],
    )


def _holder(store: WalletStore, text: str) -> tuple[str, str]:
    """Name ("" for a bare address) and address of what a person named."""
    if text.startswith("0x") and len(text) > 4:
        try:
            return "", to_checksum(parse_address(text))
        except ValueError:
            raise WalletError("that is no address", expected="0x and 40 hex digits, or a wallet's name") from None
    entry = store.entry(text)
    if entry.address is None:
        raise WalletError(f"the file of wallet {text!r} names no address", received=str(entry.path))
    return entry.name, entry.address


@click.command()
@click.argument("holders", nargs=-1, metavar="[WALLET|ADDRESS]...")
@config_option
@json_option
def balance(out: Output, holders: tuple[str, ...], config_file: Path | None) -> None:
    """What wallets or addresses have on the sandbox network; all wallets when none is named."""
    from micropaywall.settings import load_settings

    store = WalletStore(data_directory())
    named = holders or tuple(entry.name for entry in store.entries() if entry.address)
    if not named:
        store.sandbox()
        named = (store.default_name(),)
    found = [_holder(store, text) for text in named]
    network = parts.sandbox_network(load_settings(config_file).settings)
    try:
        amounts = [
            SANDBOX_TOKEN.asset.money(value)
            for value in network.balances([parse_address(address) for _, address in found])
        ]
    finally:
        network.close()
    out.document([_balance(name, address, money) for (name, address), money in zip(found, amounts, strict=True)])
    out.table(
        [
            Column("wallet", rigid=True),
            Column("address", keep="both", least=13),
            Column("balance", right=True, rigid=True),
            Column("network", spare=True),
        ],
        [
            (name or "-", address, str(money), f"sandbox ({SANDBOX_TOKEN.network})")
            for (name, address), money in zip(found, amounts, strict=True)
        ],
    )


def _balance(name: str, address: str, money: Money) -> dict[str, object]:
    return {
        "wallet": name or None,
        "address": address,
        "balance": str(money).partition(" ")[0],
        "balanceAtomic": str(money.amount_atomic),
        "currency": money.asset.symbol,
        "network": SANDBOX_TOKEN.network,
    }


@click.command()
@click.argument("holder", required=False, metavar="[WALLET|ADDRESS]")
@click.argument("amount", default="$1000")
@config_option
@json_option
def fund(out: Output, holder: str | None, amount: str, config_file: Path | None) -> None:
    """Give WALLET or ADDRESS sandbox money from the faucet; AMOUNT is $1000 unless another is named.

    Every address starts with money already (1,000 sandbox USDC). Nothing here is worth anything.
    """
    from micropaywall.sandbox.chain import Reverted
    from micropaywall.settings import load_settings

    store = WalletStore(data_directory())
    if holder is None:
        store.sandbox()
    name, address = _holder(store, holder or store.default_name())
    money = parse_price(amount).in_asset(SANDBOX_TOKEN.asset)
    if money is None:
        raise PriceError("the faucet gives sandbox USDC only", expected="$1000 or 1000 USDC", received=amount)
    raw = parse_address(address)
    network = parts.sandbox_network(load_settings(config_file).settings)
    try:
        result = network.fund(raw, money.amount_atomic, key=secrets.token_bytes(32))
        after = SANDBOX_TOKEN.asset.money(network.balances([raw])[0])
    finally:
        network.close()
    if isinstance(result, Reverted):
        raise RailError(f"the faucet gave nothing: {result.why.message}", received=str(money))
    out.document(_balance(name, address, after) | {"transaction": "0x" + result.hash.hex()})
    out.check(True, f"{name or address} got {money} and has {after} on the sandbox network")
