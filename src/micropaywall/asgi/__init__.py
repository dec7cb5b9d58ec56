"""A paywall around any ASGI application.

A plain class that wraps ``send``: raw header lists, nothing buffered unless it is paid for. Unpriced requests, WebSocket and
lifespan go straight through. A paid response is held until its payment is captured and settled; one that streams, or outgrows
what may be held, is settled before its first byte leaves. Background tasks of the application run after its last byte, as
without us.

    app = Paywall({"GET /api/resource": "$0.001"}, pay_to="0x…").asgi(app)
"""

from micropaywall.asgi.middleware import PaywallMiddleware

__all__ = ["PaywallMiddleware"]
