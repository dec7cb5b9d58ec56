"""``micropaywall sandbox``: the sandbox network itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from micropaywall.cli import parts
from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option, local_time

if TYPE_CHECKING:
    from micropaywall.sandbox.chain import Block, Network

__all__ = ["faults", "mine", "reorg", "sandbox", "serve", "status"]


@click.group(
    cls=LazyGroup,
    members={
        "status": Member(f"{__name__}:status", "The newest block, and the rules in force."),
        "mine": Member(f"{__name__}:mine", "Make blocks now."),
        "reorg": Member(f"{__name__}:reorg", "Replace the newest blocks; their transfers are undone."),
        "faults": Member(f"{__name__}:faults", "The faults that can be asked for."),
        "serve": Member(f"{__name__}:serve", "Share this network with other machines, over HTTP."),
    },
)
def sandbox() -> None:
    """The sandbox network: play money, real signatures, trouble on request. One file per user."""


@contextmanager
def _network(config_file: Path | None) -> Iterator[Network]:
    from micropaywall.settings import load_settings

    network = parts.sandbox_network(load_settings(config_file).settings)
    try:
        yield network
    finally:
        network.close()


def _block(block: Block) -> dict[str, object]:
    return {"block": block.number, "hash": "0x" + block.hash.hex(), "time": block.time_s}


@click.command()
@config_option
@json_option
def status(out: Output, config_file: Path | None) -> None:
    """The newest block, and the rules in force."""
    from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN

    with _network(config_file) as network:
        head, rules = network.head(), network.rules()
    initial = SANDBOX_TOKEN.asset.money(rules.initial_balance)
    out.document(
        {
            "network": SANDBOX_NETWORK,
            "token": SANDBOX_TOKEN.address_text,
            **_block(head),
            "initialBalance": str(initial),
            "automine": rules.automine,
            "blockIntervalMs": rules.block_interval_ms,
            "finalityDepth": rules.finality_depth,
        }
    )
    interval = f"every {rules.block_interval_ms / 1000:g} s" if rules.block_interval_ms else "on request"
    out.pairs(
        [
            ("network", SANDBOX_NETWORK),
            ("token", f"{SANDBOX_TOKEN.asset.symbol} {SANDBOX_TOKEN.address_text}"),
            ("block", f"{head.number}, {local_time(head.time_s * 1000)}"),
            ("new blocks", interval + (", and one for each transfer" if rules.automine else "")),
            ("final after", f"{rules.finality_depth} blocks"),
            ("new address has", str(initial)),
        ],
        indent="",
    )


@click.command()
@click.argument("blocks", type=click.IntRange(1, 10_000), default=1)
@config_option
@json_option
def mine(out: Output, blocks: int, config_file: Path | None) -> None:
    """Make BLOCKS blocks now (default: one); the first takes the transfers that wait."""
    with _network(config_file) as network:
        head = network.mine(blocks)
    out.document(_block(head))
    out.check(True, f"the newest block is {head.number}")


@click.command()
@click.argument("depth", type=click.IntRange(1, 10_000), default=1)
@click.option("--keep", is_flag=True, help="Mine the same transfers again, in the next block.")
@config_option
@json_option
def reorg(out: Output, depth: int, keep: bool, config_file: Path | None) -> None:
    """Replace the newest DEPTH blocks (default: one) by a longer branch without their transfers.

    Balances are restored and authorizations can be used again; sellers have to notice. Final blocks stay.
    """
    with _network(config_file) as network:
        head = network.reorganise(depth, drop=() if keep else "all", again="later" if keep else "at_once")
    out.document(_block(head))
    out.check(True, f"{depth} block{'' if depth == 1 else 's'} replaced; the newest is {head.number}")


@click.command()
@json_option
def faults(out: Output) -> None:
    """The faults that can be asked for: by `serve --fault`, in the configuration, or in a request's Sandbox-Fault header."""
    from micropaywall.sandbox.faults import FaultName

    out.document(
        [
            {
                "fault": fault.text,
                "argument": fault.argument.unit if fault.argument else None,
                "default": fault.argument.default if fault.argument else None,
                "strikes": fault.strikes.value,
                "meaning": fault.meaning,
            }
            for fault in FaultName
        ]
    )
    for fault in FaultName:
        argument = f"={fault.argument.default}" if fault.argument else ""
        unit = f" ({fault.argument.unit})" if fault.argument else ""
        out.line(f"{fault.text}{argument}{unit}", "bold")
        out.say(f"{fault.meaning} Strikes {fault.strikes.value}.", indent="    ")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=4_020, show_default=True, help="Port to listen on.")
@config_option
@json_option
def serve(out: Output, host: str, port: int, config_file: Path | None) -> None:
    """Share this network over HTTP, until Ctrl-C. Whoever reaches it can do everything: for development only."""
    from micropaywall.sandbox.server import SandboxServer

    with _network(config_file) as network:
        server = SandboxServer(network, host=host, port=port)
        out.document({"url": server.url})
        out.check(True, f"the sandbox network is at {server.url}")
        out.line(f'  Sellers elsewhere: [rails.sandbox] store = "{server.url}"')
        try:
            server.serve()
        except KeyboardInterrupt:
            out.remark("stopped", "dim")
        finally:
            server.close()
