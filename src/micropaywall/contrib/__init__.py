"""Prices bound to endpoints rather than to URL patterns: thin layers over the exchange of `asgi` and `wsgi`.

The application must be wrapped once (``app = paywall.asgi(app)`` or ``paywall.wsgi(app)``). An endpoint that is priced and
runs without its wrapper answers 500: it is never served free by mistake.
"""
