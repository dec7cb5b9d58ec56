"""``micropaywall serve``: an application, or the sample resources, behind a paywall."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from micropaywall.cli import parts
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.cli.screen import Column
from micropaywall.errors import ConfigurationError
from micropaywall.ledger import path_of
from micropaywall.money import Price

if TYPE_CHECKING:
    from micropaywall.cli.serving.plan import Plan, Site
    from micropaywall.core.routes import Route
    from micropaywall.settings import Loaded, Settings

__all__ = ["serve"]

_BY_REQUEST: Final = "by request"


@click.command()
@click.option("--sandbox", is_flag=True, help="Take play money on the sandbox network only; needs no configuration.")
@click.option(
    "--app",
    metavar="MODULE:APP",
    help="The ASGI or WSGI application behind the paywall. Default: sample resources.",
)
@config_option
@click.option("--host", metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 for any free one. Default: 3000.")
@click.option("--workers", type=click.IntRange(1, 256), help="Server processes, sharing one book. Default: 1.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain (PEM).")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate (PEM).")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=ARGUMENT]",
    help="Trouble on request, on the sandbox only; may be given several times. docs/reference/sandbox-faults.md lists them.",
)
@click.option(
    "--allow-plain-http", is_flag=True, help="Serve plain HTTP off loopback, behind a proxy that speaks TLS, say."
)
@json_option
def serve(
    out: Output,
    sandbox: bool,
    app: str | None,
    config_file: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    tls_cert: str | None,
    tls_key: str | None,
    faults: tuple[str, ...],
    allow_plain_http: bool,
) -> None:
    """Put a price on an application, or on sample resources.

    \b
    micropaywall serve --sandbox                       sample resources for play money, on port 3000
    micropaywall serve --config shop.toml              what the file says
    micropaywall serve --sandbox --app shop:app        your application, at the prices of the configuration

    Ctrl-C stops it: requests that are being served are finished first. With --json the first line on standard output is one
    JSON object that says where it listens and what is priced.
    """  # noqa: D301  (click's mark for lines that are not to be refilled is a real backspace)
    from micropaywall.cli.serving import process
    from micropaywall.cli.serving.plan import Plan

    process.require_uvicorn()
    plan = Plan(
        config_file.absolute() if config_file else None,
        sandbox,
        {
            "server.app": app,
            "server.host": host,
            "server.port": port,
            "server.workers": workers,
            "server.tls_cert": tls_cert,
            "server.tls_key": tls_key,
            "server.allow_plain_http": True if allow_plain_http else None,
        },
    )
    loaded = plan.load()
    if faults:
        if not sandbox and parts.SANDBOX not in loaded.settings.rails:
            raise ConfigurationError("faults are for the sandbox network", hint="Add --sandbox.")
        plan = replace(plan, flags={**plan.flags, "rails.sandbox.faults": list(faults)})
        loaded = plan.load()
    check_transport(loaded.settings)
    site = plan.site(loaded)
    with process.listen(loaded.settings.server.host, loaded.settings.server.port) as listener:
        _serve(out, plan, loaded, site, listener)
    out.remark("stopped", "dim")


def _serve(out: Output, plan: Plan, loaded: Loaded, site: Site, listener: socket.socket) -> None:
    from micropaywall.cli.serving import process
    from micropaywall.cli.serving.workers import run_workers

    settings = loaded.settings

    def started() -> None:
        announce(out, plan, settings, site, listener.getsockname()[1])

    if settings.server.workers > 1:
        run_workers(plan, settings.server.workers, listener, started=started)
    else:
        process.run(site, settings, listener, started=started)


def check_transport(settings: Settings) -> None:
    """Refuse plain HTTP off loopback, unless it was allowed expressly: a payment header must not travel in the clear."""
    server = settings.server
    if server.tls_cert or server.allow_plain_http or is_loopback(server.host):
        return
    raise ConfigurationError(
        f"plain HTTP would be served on {server.host}, where others can read and change it",
        expected="--tls-cert and --tls-key, or a loopback address",
        received=server.host,
        hint="Behind a proxy that speaks TLS: --allow-plain-http, and seller.public_url in the configuration.",
    )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address or name of this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def announce(out: Output, plan: Plan, settings: Settings, site: Site, port: int) -> None:
    """What is sold, where, for which money, and what to type next."""
    scheme = "https" if settings.server.tls_cert else "http"
    shown_host = "localhost" if is_loopback(settings.server.host) else settings.server.host
    host = f"[{shown_host}]" if ":" in shown_host else shown_host
    url = settings.seller.public_url.rstrip("/") or f"{scheme}://{host}:{port}"
    paywall = site.paywall
    rails = [] if paywall is None else [rail.seller for rail in paywall.rails]
    pay_to = settings.seller.pay_to or _sandbox_payee(plan)
    book = path_of(settings.ledger.url)
    if out.as_json:
        out.document(
            {
                "url": url,
                "pid": os.getpid(),
                "port": port,
                "routes": [
                    {"route": route.name, "price": _price(route), "description": route.description}
                    for route in site.routes
                ],
                "networks": [rail.network for rail in rails],
                "payTo": pay_to,
                "ledger": str(book),
                "workers": settings.server.workers,
            }
        )
        return
    money = "play money" if all(rail.play_money for rail in rails) else "real money"
    networks = ", ".join(f"{rail.asset.symbol} on {rail.name} ({rail.network})" for rail in rails)
    out.line()
    out.line(f"  {url}", "bold", "cyan")
    out.line()
    out.table(
        [Column("price", right=True), Column("endpoint"), Column("")],
        [(_price(route), route.name, route.description) for route in site.routes]
        or [("set by the application", "", "")],
        indent="  ",
    )
    out.line()
    items = [("paid in", f"{networks}: {money}"), ("paid to", pay_to)] if paywall else []
    out.pairs([*items, ("book", str(book)), ("processes", str(settings.server.workers))])
    sample = next(
        (route.name for route in reversed(site.routes) if route.name.startswith("GET /") and "{" not in route.name), ""
    )
    path = "/api/resource" if any(route.name == "GET /api/resource" for route in site.routes) else sample[4:]
    _next(out, url + path)


def _next(out: Output, url: str) -> None:
    curl = "curl.exe" if os.name == "nt" else "curl"
    out.line()
    out.line("  In another terminal:", "dim")
    out.commands(
        [
            (f"{curl} -i {url}", "the 402"),
            (f"micropaywall get {url}", "pay for it"),
            ("micropaywall ledger list", "the seller's book"),
        ],
        indent="    ",
    )
    out.line()


def _price(route: Route) -> str:
    return str(route.price) if isinstance(route.price, Price) else _BY_REQUEST


def _sandbox_payee(plan: Plan) -> str:
    from micropaywall.sandbox.rail import DEFAULT_PAYEE

    return DEFAULT_PAYEE
