"""What a buyer allows: hosts, payees, networks, transports; and which offer it takes. Pure: facts come in, a verdict goes out.

`choose` says which of a challenge's offers may be paid, the cheapest first, and which of them need a person's agreement.
Whether the budget has room is asked in the store that all processes share, where it is reserved in the same step (`core.budget`).
Every refusal is a PolicyRefused that says what was expected and what came. Nothing was signed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from micropaywall.core.budget import covers
from micropaywall.core.hosts import host_matches, is_loopback_host
from micropaywall.core.model import Offer
from micropaywall.errors import (
    HostDenied,
    InsecureTransport,
    KillSwitchOn,
    NoAcceptableOffer,
    PayeeChanged,
    PolicyRefused,
)
from micropaywall.money import Asset, Money, Price

__all__ = [
    "TEST_NETWORKS",
    "Choice",
    "HostFacts",
    "Policy",
    "Realm",
    "Reason",
    "Target",
    "choose",
    "realm_of",
]

Realm = Literal["live", "test"]
"""Real money, or play money (the sandbox and public test networks). The two are never added up."""
Reason = Literal["above_threshold", "first_payment", "payee_changed"]
"""Why a payment needs a person's agreement."""

TEST_NETWORKS: Final = frozenset(
    f"eip155:{chain_id}"
    for chain_id in (
        4_020_402,  # our sandbox
        31_337,  # local development chains (anvil, hardhat)
        84_532,  # Base Sepolia
        11_155_111,  # Ethereum Sepolia
        421_614,  # Arbitrum Sepolia
        11_155_420,  # OP Sepolia
        43_113,  # Avalanche Fuji
        80_002,  # Polygon Amoy
        11_142_220,  # Celo Sepolia
        10_143,  # Monad testnet
        1_328,  # Sei testnet
        2_201,  # Stable testnet
        11_124,  # Abstract testnet
        1_444_673_419,  # SKALE Base Sepolia
        31_611,  # Mezo testnet
        72_344,  # Radius testnet
        181_228,  # HPP Sepolia
        51,  # XDC Apothem
        5_042_002,  # Arc testnet
    )
)
"""Networks whose money is worth nothing. What is not listed is treated as real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be bought.

    ``approve_above``: payments above it ask the approval callback. ``first_payment``: the first payment to a host is
    allowed, asked for, or refused; with ``first_payment_max`` a first payment above it is asked for in any case.
    ``networks``: CAIP-2 ids that may be paid on, None for all that the wallet can. ``pin_payees``: a host that asks for
    payment to another address than before is refused, or asked for when there is somebody to ask.
    ``allow_plain_http``: play money may be paid over plain HTTP to hosts other than loopback (containers on one machine).
    """

    approve_above: Price | None = None
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()
    first_payment: Literal["allow", "ask", "refuse"] = "allow"
    first_payment_max: Price | None = None
    networks: frozenset[str] | None = None
    pin_payees: bool = True
    kill_switch: bool = False
    allow_private_addresses: bool = False
    allow_plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request went: the origin that answered."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port, as the journal keeps it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is remembered of a host: the payees it was paid at, by network. Empty for a host never paid."""

    payees: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def paid_before(self) -> bool:
        """Whether a payment to this host was served before."""
        return bool(self.payees)


@dataclass(frozen=True, slots=True)
class Choice:
    """An offer that may be paid. ``position`` is its place in the challenge; ``reasons`` are why a person must agree."""

    offer: Offer
    position: int
    reasons: tuple[Reason, ...]


def realm_of(asset: Asset) -> Realm:
    """Whether ``asset`` is real or play money, by the network in its CAIP-19 id."""
    return "test" if asset.id.partition("/")[0] in TEST_NETWORKS else "live"


def choose(
    offers: Sequence[Offer],
    policy: Policy,
    target: Target,
    known: HostFacts,
    can_pay: Callable[[Offer], bool],
    *,
    can_ask: bool,
) -> list[Choice]:
    """The offers that may be paid, cheapest first; never empty.

    Prices are compared within a currency; between currencies the seller's order counts. ``can_ask``: there is somebody
    to approve. Raises a PolicyRefused subclass when the policy forbids what could be paid, NoAcceptableOffer when nothing can be.
    """
    _check_host(policy, target)
    payable = [(place, offer) for place, offer in enumerate(offers) if can_pay(offer)]
    if not payable:
        raise NoAcceptableOffer(
            "none of the offers is one that this wallet pays",
            expected="an offer in a scheme, network and asset of the wallet",
            received=[f"{offer.scheme} on {offer.network}"[:80] for offer in offers[:8]],
        )
    choices: list[Choice] = []
    refusal: PolicyRefused | None = None
    for place, offer in payable:
        try:
            choices.append(Choice(offer, place, _judge(offer, policy, target, known, can_ask=can_ask)))
        except PolicyRefused as refused:
            refusal = refusal or refused
    if not choices:
        raise refusal or NoAcceptableOffer("none of the offers can be paid")
    order: dict[str, int] = {}
    for choice in choices:
        order.setdefault(_currency(choice.offer.price.asset), len(order))
    return sorted(choices, key=lambda c: (order[_currency(c.offer.price.asset)], c.offer.price.decimal, c.position))


def _check_host(policy: Policy, target: Target) -> None:
    if policy.kill_switch:
        raise KillSwitchOn("all payments are stopped by the policy", hint="micropaywall budget show")
    denied = next((p for p in policy.deny_hosts if host_matches(p, target.host)), None)
    if denied is not None:
        raise HostDenied(f"payments to {target.host} are denied", expected=f"no host of {denied}", received=target.host)
    if policy.allow_hosts and not any(host_matches(p, target.host) for p in policy.allow_hosts):
        raise HostDenied(
            f"payments to {target.host} are not on the list of allowed hosts",
            expected=list(policy.allow_hosts),
            received=target.host,
        )


def _judge(offer: Offer, policy: Policy, target: Target, known: HostFacts, *, can_ask: bool) -> tuple[Reason, ...]:
    """Why a person must agree to this offer; raises when it is forbidden outright."""
    if policy.networks is not None and offer.network not in policy.networks:
        raise PolicyRefused(
            f"payments on {offer.network} are not allowed", expected=sorted(policy.networks), received=offer.network
        )
    if target.scheme != "https":
        _check_plain(offer, policy, target)
    reasons: list[Reason] = []
    pinned = known.payees.get(offer.network, frozenset())
    if policy.pin_payees and pinned and offer.pay_to.lower() not in pinned:
        if not can_ask:
            raise PayeeChanged(
                f"{target.authority} asks for payment to another address than before",
                expected=sorted(pinned),
                received=offer.pay_to,
                hint="If the seller confirms it, approve it: `micropaywall get` asks on a terminal, clients ask approve=….",
            )
        reasons.append("payee_changed")
    if not known.paid_before:
        if policy.first_payment == "refuse":
            raise PolicyRefused(
                f"{target.authority} was never paid before, and first payments are refused",
                expected="a host that was paid before",
                received=target.authority,
            )
        above = policy.first_payment_max is not None and _above(offer.price, policy.first_payment_max)
        if policy.first_payment == "ask" or above:
            reasons.append("first_payment")
    if policy.approve_above is not None and _above(offer.price, policy.approve_above):
        reasons.append("above_threshold")
    return tuple(reasons)


def _check_plain(offer: Offer, policy: Policy, target: Target) -> None:
    if not (is_loopback_host(target.host) or policy.allow_plain_http):
        raise InsecureTransport(
            "payments need HTTPS: over plain HTTP anybody on the way can change payee and price",
            expected=f"https://{target.host}",
            received=f"{target.scheme}://{target.authority}",
            hint="For play money between containers or in-process applications: Policy(allow_plain_http=True).",
        )
    if realm_of(offer.price.asset) != "test":
        raise InsecureTransport(
            "real money is never paid over plain HTTP, not even on this machine",
            expected="an offer on the sandbox or a test network, or HTTPS",
            received=f"{offer.price} on {offer.network}",
        )


def _above(price: Money, threshold: Price) -> bool:
    """Whether ``price`` is above ``threshold``; what cannot be compared is."""
    return not covers(threshold.unit, price.asset) or price.decimal > threshold.value


def _currency(asset: Asset) -> str:
    return asset.fiat.upper() or asset.symbol.upper() or asset.id
