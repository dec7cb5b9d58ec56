"""Test your own priced application: a pytest plugin, active wherever micropaywall is installed.

    def test_the_report_costs_a_tenth_of_a_cent(sandbox_seller, paying_client):
        seller = sandbox_seller(app, {"GET /report": "$0.001"})
        response = paying_client.get(seller.url + "/report")
        assert response.status_code == 200
        assert [record.status for record in seller.records()] == ["success"]

Fixtures:

    paywall_sandbox      a sandbox chain, a book and a data directory of the test's own
    sandbox_seller       serves your ASGI or WSGI application, priced, on a free port of this machine
    paying_client        an httpx2 client with 1,000 sandbox USDC and a budget of $100
    async_paying_client  makes asynchronous ones: `async with async_paying_client() as client`
    faults               trouble on request: `faults.set("settle_answer_lost_after")`
    fake_clock           a clock that stands still until you move it, for chain, seller and buyer

Nothing is imported before a test asks for it. Without the installed entry point: ``pytest -p micropaywall.testing``.
"""

from __future__ import annotations

from micropaywall.testing.fixtures import (
    async_paying_client,
    fake_clock,
    faults,
    paying_client,
    paywall_sandbox,
    sandbox_seller,
)

__all__ = ["async_paying_client", "fake_clock", "faults", "paying_client", "paywall_sandbox", "sandbox_seller"]
