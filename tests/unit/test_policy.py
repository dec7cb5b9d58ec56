"""What a buyer allows: hosts, transports, networks, payees, first payments; and which offer it takes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from micropaywall.core.budget import Budget, Limit, Purchase, Spent, spend
from micropaywall.core.hosts import host_matches, is_loopback_host, normal_host
from micropaywall.core.model import Offer
from micropaywall.core.policy import HostFacts, Policy, Target, choose, realm_of
from micropaywall.errors import (
    BudgetExceeded,
    ConfigurationError,
    HostDenied,
    InsecureTransport,
    KillSwitchOn,
    NoAcceptableOffer,
    PayeeChanged,
    PolicyRefused,
)
from micropaywall.money import Asset, Price, parse_price

USDC = Asset("eip155:8453/erc20:0xaa", "USDC", 6, "USD")
EURC = Asset("eip155:8453/erc20:0xbb", "EURC", 6, "EUR")
DAI = Asset("eip155:8453/erc20:0xcc", "DAI", 18, "USD")
PLAY = Asset("eip155:4020402/erc20:0xdd", "USDC", 6, "USD")
PAYEE, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
HTTPS = Target("https", "api.example.com", 443)
LOCAL = Target("http", "localhost", 3000)
KNOWN = HostFacts({"eip155:8453": frozenset({PAYEE})})
NEW = HostFacts()


def offer(amount: int, asset: Asset = USDC, pay_to: str = PAYEE, network: str = "") -> Offer:
    network = network or asset.id.partition("/")[0]
    return Offer("exact", network, asset.money(amount), "0x" + "00" * 20, pay_to, 300)


def pick(
    *offers: Offer, policy: Policy | None = None, target: Target = HTTPS, known: HostFacts = KNOWN, **options: Any
) -> Any:
    can_pay = options.pop("can_pay", lambda _: True)
    return choose(offers, policy or Policy(), target, known, can_pay, can_ask=options.pop("can_ask", False))


# -- which offer ------------------------------------------------------------------------------------------------------


def test_the_cheapest_offer_is_taken_whatever_the_order_of_the_seller() -> None:
    choices = pick(offer(3000), offer(1000), offer(2000))
    assert [choice.offer.price.amount_atomic for choice in choices] == [1000, 2000, 3000]
    assert [choice.position for choice in choices] == [1, 2, 0]


def test_prices_in_assets_of_different_decimals_are_compared_by_what_they_are_worth() -> None:
    choices = pick(offer(2000), offer(10**15, DAI))
    assert choices[0].offer.price.asset is DAI


def test_currencies_are_not_compared_but_taken_in_the_sellers_order() -> None:
    choices = pick(offer(5000, EURC), offer(1, USDC), offer(4000, EURC))
    assert [choice.position for choice in choices] == [2, 0, 1]


def test_an_offer_that_the_wallet_cannot_pay_is_not_taken_however_cheap() -> None:
    choices = pick(offer(1), offer(1000), can_pay=lambda candidate: candidate.price.amount_atomic != 1)
    assert [choice.position for choice in choices] == [1]
    with pytest.raises(NoAcceptableOffer):
        pick(offer(1), can_pay=lambda _: False)


def test_an_offer_that_the_policy_forbids_is_passed_over_for_one_that_it_allows() -> None:
    policy = Policy(networks=frozenset({"eip155:1"}))
    choices = pick(offer(1), offer(9, network="eip155:1"), policy=policy)
    assert [choice.position for choice in choices] == [1]
    with pytest.raises(PolicyRefused, match="not allowed"):
        pick(offer(1), policy=policy)


# -- where ------------------------------------------------------------------------------------------------------------


def test_the_kill_switch_of_the_policy_stops_everything() -> None:
    with pytest.raises(KillSwitchOn):
        pick(offer(1), policy=Policy(kill_switch=True))


@pytest.mark.parametrize(
    ("policy", "host", "allowed"),
    [
        (Policy(deny_hosts=("api.example.com",)), "api.example.com", False),
        (Policy(deny_hosts=("*.example.com",)), "api.example.com", False),
        (Policy(deny_hosts=("*.example.com",)), "example.com", True),
        (Policy(deny_hosts=("example.com",)), "api.example.com", True),
        (Policy(deny_hosts=("EXAMPLE.com.",)), "example.com", False),
        (Policy(allow_hosts=("*.example.com",)), "a.b.example.com", True),
        (Policy(allow_hosts=("*.example.com",)), "badexample.com", False),
        (Policy(allow_hosts=("api.example.com",)), "api.example.com.evil.net", False),
        (Policy(allow_hosts=("api.example.com",), deny_hosts=("api.example.com",)), "api.example.com", False),
        (Policy(allow_hosts=("bücher.example",)), "xn--bcher-kva.example", True),
    ],
)
def test_lists_of_hosts_are_exact_or_mean_all_below(policy: Policy, host: str, allowed: bool) -> None:
    target = Target("https", host, 443)
    if allowed:
        assert pick(offer(1), policy=policy, target=target)
    else:
        with pytest.raises(HostDenied):
            pick(offer(1), policy=policy, target=target)


def test_plain_http_off_this_machine_is_never_paid() -> None:
    target = Target("http", "api.example.com", 80)
    for asset in (USDC, PLAY):
        with pytest.raises(InsecureTransport):
            pick(offer(1, asset), target=target)


def test_plain_http_on_this_machine_is_paid_with_play_money_only() -> None:
    assert pick(offer(1, PLAY), target=LOCAL)
    with pytest.raises(InsecureTransport, match="real money"):
        pick(offer(1, USDC), target=LOCAL)
    assert [choice.position for choice in pick(offer(1, USDC), offer(5, PLAY), target=LOCAL)] == [1]


def test_play_money_may_be_allowed_over_plain_http_elsewhere_and_real_money_may_not() -> None:
    target = Target("http", "seller", 3000)
    policy = Policy(allow_plain_http=True)
    assert pick(offer(1, PLAY), target=target, policy=policy)
    with pytest.raises(InsecureTransport):
        pick(offer(1, USDC), target=target, policy=policy)


def test_what_is_not_known_as_a_test_network_is_real_money() -> None:
    assert realm_of(PLAY) == "test"
    assert realm_of(USDC) == "live"
    assert realm_of(Asset("eip155:999999999/erc20:0xaa", "USDC", 6, "USD")) == "live"
    assert realm_of(Asset("", "USDC", 6, "USD")) == "live"


# -- whom -------------------------------------------------------------------------------------------------------------


def test_a_changed_payee_of_a_known_host_is_refused_when_there_is_nobody_to_ask() -> None:
    with pytest.raises(PayeeChanged) as caught:
        pick(offer(1, pay_to=OTHER))
    assert caught.value.expected == [PAYEE]
    assert caught.value.received == OTHER
    assert pick(offer(1, pay_to=OTHER), can_ask=True)[0].reasons == ("payee_changed",)
    assert pick(offer(1, pay_to=OTHER), policy=Policy(pin_payees=False))[0].reasons == ()
    assert pick(offer(1, pay_to=PAYEE.upper().replace("0X", "0x")))


def test_a_payee_is_pinned_for_its_network() -> None:
    assert pick(offer(1, pay_to=OTHER, network="eip155:1"))[0].reasons == ()


def test_a_first_payment_is_allowed_asked_for_or_refused() -> None:
    assert pick(offer(1), known=NEW)[0].reasons == ()
    assert pick(offer(1), known=NEW, policy=Policy(first_payment="ask"))[0].reasons == ("first_payment",)
    with pytest.raises(PolicyRefused, match="never paid before"):
        pick(offer(1), known=NEW, policy=Policy(first_payment="refuse"))
    assert pick(offer(1), policy=Policy(first_payment="refuse"))


def test_a_first_payment_above_its_maximum_is_asked_for() -> None:
    policy = Policy(first_payment_max=parse_price("$0.001"))
    assert pick(offer(1000), known=NEW, policy=policy)[0].reasons == ()
    assert pick(offer(1001), known=NEW, policy=policy)[0].reasons == ("first_payment",)
    assert pick(offer(1001), policy=policy)[0].reasons == ()


def test_a_payment_above_the_threshold_needs_approval_and_so_does_one_that_cannot_be_compared() -> None:
    policy = Policy(approve_above=parse_price("$0.01"))
    assert pick(offer(10_000), policy=policy)[0].reasons == ()
    assert pick(offer(10_001), policy=policy)[0].reasons == ("above_threshold",)
    assert pick(offer(1, EURC), policy=policy)[0].reasons == ("above_threshold",)


# -- hosts ------------------------------------------------------------------------------------------------------------


def test_loopback_is_what_can_mean_nothing_else() -> None:
    for host in ("localhost", "LOCALHOST.", "api.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"):
        assert is_loopback_host(host), host
    for host in ("localhost.example.com", "127.0.0.1.nip.io", "127.1", "2130706433", "0.0.0.0", "notlocalhost", ""):
        assert not is_loopback_host(host), host


def test_a_host_has_one_normal_form() -> None:
    assert normal_host("API.Example.COM.") == "api.example.com"
    assert normal_host("[::1]") == "::1"
    assert not host_matches("*.com", "com")
    with pytest.raises(ConfigurationError):
        normal_host("a" * 64 + "ä.example")


# -- budgets ----------------------------------------------------------------------------------------------------------


def purchase(amount: int, asset: Asset = USDC) -> Purchase:
    return Purchase(price=asset.money(amount), host="api.example.com", payee=PAYEE)


def after(counted: str, signed: str | None = None, asset: Asset = USDC) -> Any:
    return lambda limit, subject: [Spent(asset, Fraction(counted), Fraction(signed or counted))]


def test_a_budget_is_full_at_its_limit_and_not_before() -> None:
    limits = Budget.parse("$1 a day").limits
    spend(limits, purchase(1), after("0.999999"))
    with pytest.raises(BudgetExceeded) as caught:
        spend(limits, purchase(2), after("0.999999"))
    assert caught.value.expected == "at most 0.000001 USD more"
    with pytest.raises(BudgetExceeded):
        spend(limits, purchase(1), after("1"))


def test_a_limit_for_each_payment_looks_at_the_price_alone() -> None:
    limits = Budget.parse("$0.01 each").limits
    spend(limits, purchase(10_000), after("1000000"))
    with pytest.raises(BudgetExceeded):
        spend(limits, purchase(10_001), after("0"))


def test_all_limits_hold_at_once() -> None:
    limits = Budget.parse("$1 a day, $0.10 an hour, $0.01 each").limits
    spent = {"day": "0.5", "hour": "0.095"}
    with pytest.raises(BudgetExceeded, match=r"\$0.1 per hour"):
        spend(limits, purchase(6_000), lambda limit, _: after(spent[limit.window])(limit, ""))


def test_an_asset_that_no_limit_covers_is_not_spent() -> None:
    with pytest.raises(BudgetExceeded, match="no budget covers"):
        spend(Budget.parse("$1 a day").limits, purchase(1, EURC), after("0"))
    with pytest.raises(BudgetExceeded, match="no budget covers"):
        spend((), purchase(1), after("0"))
    nameless = Asset("eip155:1/erc20:0xee", "", 0)
    with pytest.raises(BudgetExceeded, match="no budget covers"):
        spend(Budget.parse("$1 a day").limits, purchase(1, nameless), after("0"))


def test_dollars_cover_every_dollar_asset_and_a_symbol_only_its_own() -> None:
    spend(Budget.parse("$1 a day").limits, purchase(10**18, DAI), after("0"))
    with pytest.raises(BudgetExceeded):
        spend(Budget.parse("$1 a day").limits, purchase(10**18, DAI), after("0.000001", asset=USDC))
    spend(Budget.parse("1 DAI a day").limits, purchase(10**18, DAI), after("5", asset=USDC))


def test_amounts_are_never_rounded() -> None:
    limits = Budget.parse("1 DAI a day").limits
    spend(limits, purchase(1, DAI), after("0.999999999999999999", asset=DAI))
    with pytest.raises(BudgetExceeded):
        spend(limits, purchase(2, DAI), after("0.999999999999999999", asset=DAI))


def test_what_sellers_say_they_refused_frees_a_budget_once_and_not_for_ever() -> None:
    limits = Budget.parse("$1 a day").limits
    spend(limits, purchase(1_000_000), after("0", signed="1"))
    with pytest.raises(BudgetExceeded, match="refused"):
        spend(limits, purchase(1), after("0", signed="2"))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("$1 a day", [("1", "USD", "day", "all", "")]),
        ("$0.01 each, $1/day", [("0.01", "USD", "payment", "all", ""), ("1", "USD", "day", "all", "")]),
        ("$1 per month and 5 usdc in total", [("1", "USD", "month", "all", ""), ("5", "USDC", "total", "all", "")]),
        ("5 USDC total", [("5", "USDC", "total", "all", "")]),
        ("$0.5 an hour for each host", [("0.5", "USD", "hour", "host", "")]),
        ("$0.5/hour per payee; $1 a call", [("0.5", "USD", "hour", "payee", ""), ("1", "USD", "payment", "all", "")]),
        ("$2 a day at API.example.com", [("2", "USD", "day", "host", "api.example.com")]),
        (f"$2 a day to {PAYEE.upper()}", [("2", "USD", "day", "payee", PAYEE)]),
        ("10 sat each", [("0.0000001", "BTC", "payment", "all", "")]),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, limits: list[tuple[str, str, Any, Any, str]]) -> None:
    expected = tuple(Limit(Price(Decimal(value), unit), window, scope, of) for value, unit, window, scope, of in limits)
    assert Budget.parse(text).limits == expected
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


@pytest.mark.parametrize(
    "text", ["", " , ", "$1", "a day", "1 a day", "$1 a week", "$-1 a day", "$0 a day", "$1 a day at", "1e3 USDC a day"]
)
def test_text_that_is_no_budget_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Budget.parse(text)
    assert "$1 a day" in str(caught.value.expected)


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="currency"):
        Limit(parse_price(1000), "day")
    with pytest.raises(ConfigurationError, match="subject"):
        Limit(parse_price("$1"), "day", "all", "api.example.com")
    with pytest.raises(ConfigurationError, match="window"):
        Limit(parse_price("$1"), "week")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        replace(Limit(parse_price("$1"), "day"), scope="planet")  # type: ignore[arg-type]
