"""What several test folders share: an independent payer, and a way to call an ASGI application without a server."""
