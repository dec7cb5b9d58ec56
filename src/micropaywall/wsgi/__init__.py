"""A paywall around any WSGI application (PEP 3333).

The same flow as `asgi`, driven from the server's thread; the book and the rails live in one background event loop per process.
Request bodies are read within bounds and handed to the application again; response iterables are always closed.

    application = Paywall({"GET /api/resource": "$0.001"}, pay_to="0x…").wsgi(application)
"""

from micropaywall.wsgi.application import PaywallApplication

__all__ = ["PaywallApplication"]
