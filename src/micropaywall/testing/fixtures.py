"""The fixtures of `micropaywall.testing`. Only pytest is imported here; everything else when a fixture is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from micropaywall.client.httpx2 import AsyncClient, Client
    from micropaywall.clock import ManualClock
    from micropaywall.testing.sandbox import Faults, PaywallSandbox
    from micropaywall.testing.seller import SellerFactory

__all__ = ["async_paying_client", "fake_clock", "faults", "paying_client", "paywall_sandbox", "sandbox_seller"]


@pytest.fixture
def fake_clock() -> ManualClock:
    """A clock that starts now and stands still; ``fake_clock.advance(seconds)`` moves chain, seller and buyer together."""
    from micropaywall.clock import ManualClock, SystemClock

    return ManualClock(SystemClock().now_ms())


@pytest.fixture
def paywall_sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PaywallSandbox]:
    """A sandbox of the test's own: `testing.sandbox.PaywallSandbox`. ``MICROPAYWALL_HOME`` points into it.

    Runs on `fake_clock` when the test uses that fixture, too.
    """
    from micropaywall.clock import SystemClock
    from micropaywall.testing.sandbox import PaywallSandbox

    home = tmp_path / "micropaywall"
    monkeypatch.setenv("MICROPAYWALL_HOME", str(home))
    wants_fake = "fake_clock" in request.fixturenames
    sandbox = PaywallSandbox(home, request.getfixturevalue("fake_clock") if wants_fake else SystemClock())
    yield sandbox
    sandbox.close()


@pytest.fixture
def faults(paywall_sandbox: PaywallSandbox) -> Faults:
    """Trouble for the payments of this test's sellers: `testing.sandbox.Faults`."""
    return paywall_sandbox.faults


@pytest.fixture
def sandbox_seller(paywall_sandbox: PaywallSandbox) -> Iterator[SellerFactory]:
    """Serves applications: ``sandbox_seller(app, routes)``; see `testing.seller.SellerFactory`."""
    from micropaywall.testing.seller import SellerFactory

    factory = SellerFactory(paywall_sandbox)
    yield factory
    factory.close()


@pytest.fixture
def paying_client(paywall_sandbox: PaywallSandbox) -> Iterator[Client]:
    """An httpx2 client that pays from `paywall_sandbox.buyer`."""
    from micropaywall.client.httpx2 import Client

    with Client(payer=paywall_sandbox.payer) as client:
        yield client


@pytest.fixture
def async_paying_client(paywall_sandbox: PaywallSandbox) -> Callable[..., AsyncClient]:
    """Makes asynchronous httpx2 clients that pay from `paywall_sandbox.buyer`; their options are httpx2's."""

    def make(**options: Any) -> AsyncClient:
        from micropaywall.client.httpx2 import AsyncClient

        return AsyncClient(payer=paywall_sandbox.payer, **options)

    return make
