"""What can be set, with type, bounds, default and meaning of each setting.

The descriptions are the reference: ``docs/reference/configuration.md`` is written from them, and a setting without one
fails the tests. Units come last in a name (``_s`` seconds, ``_bytes``, ``_atomic`` atomic units of the asset).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, Struct

from micropaywall import limits
from micropaywall.core.model import Binding, SettleMode

Seconds = Annotated[int, Meta(ge=1, le=31_536_000)]
Bytes = Annotated[int, Meta(ge=0, le=2**40)]
PriceText = str | int


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file."""


# -- seller -----------------------------------------------------------------------------------------------------------


class RouteSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One priced endpoint. Routes are tried in order; the first that matches method and path sets the price."""

    path: Annotated[
        str,
        Meta(
            pattern="^/",
            description='Path of the endpoint: `"/api/resource"`, `"/items/{id}"`, `"/files/{name:path}"` or `"/files/*"`.',
        ),
    ]
    price: Annotated[
        PriceText,
        Meta(
            description='What one request costs: `"$0.001"`, `"0.001 USDC"`, `"10 sat"`, or a whole number of atomic units.'
        ),
    ]
    method: Annotated[
        Literal["", "GET", "POST", "PUT", "PATCH", "DELETE", "QUERY"],
        Meta(description="Method that is priced; empty for all. HEAD is priced as GET, OPTIONS is never charged."),
    ] = ""
    settle: Annotated[
        SettleMode | None,
        Meta(description="When the money moves on this route; `seller.settle` where it is not given."),
    ] = None
    binding: Annotated[
        Binding | None,
        Meta(description="How firmly a payment is tied to one request; `seller.binding` where it is not given."),
    ] = None
    bind_body: Annotated[bool, Meta(description="Whether a quote also covers the request's body.")] = False
    description: Annotated[
        str, Meta(max_length=500, description="What a buyer gets, in a sentence; shown in the 402.")
    ] = ""
    mime_type: Annotated[str, Meta(max_length=100, description="Media type of the response, shown in the 402.")] = ""
    max_body_bytes: Annotated[
        Bytes | None, Meta(description="Largest request body; `seller.max_body_bytes` where it is not given.")
    ] = None
    timeout_s: Annotated[
        Seconds | None,
        Meta(description="How long the handler may take; `seller.handler_timeout_s` where it is not given."),
    ] = None
    exposure_atomic: Annotated[
        Bytes | None,
        Meta(
            description="Delivered and unsettled per payer in `deferred` mode; `seller.exposure_atomic` where it is not given."
        ),
    ] = None
    rails: Annotated[
        tuple[str, ...], Meta(description="Names of the rails that may pay this route; empty for all.")
    ] = ()


class SellerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sold, to whom it is paid, and how much is risked."""

    pay_to: Annotated[
        str, Meta(description="Address that receives the payments. Empty only with `serve --sandbox`.")
    ] = ""
    public_url: Annotated[
        str,
        Meta(
            description="Scheme and host under which buyers reach this seller, `https://api.example.com`. Needed behind a proxy: "
            "offers and quotes name it."
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks (CIDR) whose `X-Forwarded-*` lines are believed. Empty: none, the socket's word "
            "counts."
        ),
    ] = ()
    settle: Annotated[
        SettleMode,
        Meta(
            description="When the money moves: `before` the handler, `after` it (the response is held until then) or `deferred` "
            "(answer at once, within the exposure)."
        ),
    ] = "after"
    binding: Annotated[
        Binding,
        Meta(
            description="How firmly a payment is tied to one request: `first` presentation, quote `required`, or `strict` (the "
            "payment's nonce is derived from the quote)."
        ),
    ] = "first"
    exposure_atomic: Annotated[
        Bytes,
        Meta(
            description="Most that one payer may have delivered and not yet settled in `deferred` mode, in atomic units."
        ),
    ] = limits.EXPOSURE_ATOMIC_DEFAULT
    quote_lifetime_s: Annotated[Seconds, Meta(description="How long a quoted price holds.")] = limits.QUOTE_LIFETIME_S
    max_body_bytes: Annotated[Bytes, Meta(description="Largest body of a priced request; larger ones get 413.")] = (
        limits.REQUEST_BODY_BYTES_MAX
    )
    held_body_memory_bytes: Annotated[
        Bytes,
        Meta(description="A response that waits for its settlement, in memory; beyond it goes to a temporary file."),
    ] = limits.HELD_BODY_MEMORY_BYTES_MAX
    held_body_disk_bytes: Annotated[
        Bytes,
        Meta(
            description="A response that waits for its settlement, on disk; beyond it the payment is settled before the first "
            "byte leaves."
        ),
    ] = limits.HELD_BODY_DISK_BYTES_MAX
    stored_response_bytes: Annotated[
        Bytes, Meta(description="Largest response that is kept for a retry with the same payment.")
    ] = limits.STORED_RESPONSE_BYTES_MAX
    handler_timeout_s: Annotated[
        Seconds, Meta(description="How long a handler may take; then nobody is charged and the buyer gets 504.")
    ] = int(limits.HANDLER_TIMEOUT_S)
    settle_timeout_s: Annotated[
        Seconds,
        Meta(description="How long a buyer waits for a settlement before it is told that the outcome is unknown."),
    ] = int(limits.SETTLE_TIMEOUT_S)
    routes: Annotated[tuple[RouteSettings, ...], Meta(description="The priced endpoints, `[[seller.routes]]`.")] = ()


# -- rails ------------------------------------------------------------------------------------------------------------


class SandboxRail(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sandbox network: real signatures and refusals, play money, one file per user."""

    store: Annotated[
        str,
        Meta(
            description="File of the network, or its URL. Empty: `sandbox.db` in the data directory, for all the user's programs."
        ),
    ] = ""
    initial_balance: Annotated[
        str,
        Meta(
            pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$",
            description='What every address starts with, in sandbox USDC: `"1000"`, `"0.5"`.',
        ),
    ] = "1000"
    automine: Annotated[
        bool, Meta(description="Whether transfers make a block of their own at once, instead of waiting for the next.")
    ] = True
    block_interval_ms: Annotated[
        int, Meta(ge=0, le=86_400_000, description="Time between blocks; 0: only transfers make blocks.")
    ] = 2_000
    finality_depth: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="Confirmations, the transfer's own block included, until a transfer is final."
        ),
    ] = 6
    faults: Annotated[
        tuple[str, ...],
        Meta(
            description='Faults that meet every payment, `"name"` or `"name=argument"`; `sandbox-faults.md` lists them.'
        ),
    ] = ()
    fault_header: Annotated[
        bool, Meta(description="Whether a request may ask for a fault by its `Sandbox-Fault` header.")
    ] = True
    v1: Annotated[
        bool,
        Meta(
            description="Whether the sandbox asset is also offered to x402 v1 clients, under a network name they know."
        ),
    ] = True


RailSettings = SandboxRail
"""Settings of one rail; a union when there are more of them."""
RAIL_SETTINGS: Final[dict[str, type[RailSettings]]] = {"sandbox": SandboxRail}
"""By the rail's name, the same as in `rails.registry`; the key of its table in the file."""


# -- the book and the server ------------------------------------------------------------------------------------------


class LedgerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The seller's book."""

    url: Annotated[
        str,
        Meta(description="Where the book is: `sqlite:///path/to/ledger.db`. Empty: `ledger.db` in the data directory."),
    ] = ""
    response_retention_s: Annotated[
        Seconds, Meta(description="How long a response is kept for a retry with the same payment.")
    ] = limits.RESPONSE_RETENTION_S
    retention_days: Annotated[
        int, Meta(ge=0, le=36_500, description="How long finished payments stay in the book; 0: for ever.")
    ] = 0


class ServerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `micropaywall serve` listens on."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0: any free one.")] = 3000
    workers: Annotated[int, Meta(ge=1, le=256, description="Server processes; all share the book.")] = 1
    app: Annotated[
        str, Meta(description="The application behind the paywall, `module:attribute`. Empty: the sample resources.")
    ] = ""
    tls_cert: Annotated[str, Meta(description="Certificate chain, PEM file.")] = ""
    tls_key: Annotated[str, Meta(description="Private key of the certificate, PEM file.")] = ""
    allow_plain_http: Annotated[
        bool, Meta(description="Whether plain HTTP is served off loopback, behind a proxy that speaks TLS, say.")
    ] = False


# -- buyer ------------------------------------------------------------------------------------------------------------


class BudgetSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit on what is spent. All limits that fit a payment must have room for it."""

    limit: Annotated[PriceText, Meta(description='Most that may be spent: `"$5"`, `"5 USDC"`.')]
    window: Annotated[
        Literal["payment", "hour", "day", "month", "total"],
        Meta(
            description="What the limit is for: one `payment`, a rolling `hour`, `day` or `month` (30 days), or in `total`."
        ),
    ]
    host: Annotated[str, Meta(description="Only for payments to this host; empty: to any.")] = ""
    payee: Annotated[str, Meta(description="Only for payments to this address; empty: to any.")] = ""
    asset: Annotated[str, Meta(description="Only for payments in this asset (CAIP-19 id); empty: in any.")] = ""


class BuyerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be bought, and from which wallet it is paid."""

    wallet: Annotated[
        str, Meta(description="Name of a keystore in the data directory, or path of one. Empty: `default`.")
    ] = ""
    passphrase_file: Annotated[
        str,
        Meta(
            description="File with the keystore's passphrase, for unattended programs. Empty: OS keyring, then a prompt."
        ),
    ] = ""
    budgets: Annotated[
        tuple[BudgetSettings, ...],
        Meta(description="The limits, `[[buyer.budgets]]`; `micropaywall budget show` prints them."),
    ] = ()
    allow_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Hosts that may be paid, `*.example.com` for all below; empty: any that is not denied."),
    ] = ()
    deny_hosts: Annotated[tuple[str, ...], Meta(description="Hosts that are never paid; wins over `allow_hosts`.")] = ()
    first_payment: Annotated[
        Literal["allow", "ask", "refuse"],
        Meta(description="The first payment to a host: `allow` it, `ask` the approval callback, or `refuse` it."),
    ] = "allow"
    approve_above: Annotated[
        PriceText | None, Meta(description="Payments above this ask the approval callback; not given: none does.")
    ] = None
    kill_switch: Annotated[bool, Meta(description="Stops every payment.")] = False
    allow_private_addresses: Annotated[
        bool, Meta(description="Whether hosts on private and link-local addresses may be reached.")
    ] = False


# -- log --------------------------------------------------------------------------------------------------------------


class LogSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the command line and the server log, to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severity that is logged.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="`text` (key=value) for people, `json` (one object a line) for machines."),
    ] = "text"


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    seller: SellerSettings = SellerSettings()
    rails: dict[str, RailSettings] = {}
    ledger: LedgerSettings = LedgerSettings()
    server: ServerSettings = ServerSettings()
    buyer: BuyerSettings = BuyerSettings()
    log: LogSettings = LogSettings()

    SECTIONS: ClassVar[dict[str, type[Section]]] = {
        "seller": SellerSettings,
        "ledger": LedgerSettings,
        "server": ServerSettings,
        "buyer": BuyerSettings,
        "log": LogSettings,
    }
    """The tables with a fixed name; `rails` has one table per rail."""
