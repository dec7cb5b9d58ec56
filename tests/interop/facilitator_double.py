"""A facilitator for the tests: /verify, /settle and /supported of x402 v2 over HTTP, backed by the sandbox network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from micropaywall.errors import MicropaywallError
from micropaywall.rails.exact.types import Instruction, parse_payload
from micropaywall.sandbox.chain import Mined, Network
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID, SANDBOX_NETWORK, SANDBOX_TOKEN

SUPPORTED = {
    "kinds": [{"x402Version": 2, "scheme": "exact", "network": SANDBOX_NETWORK}],
    "extensions": [],
    "signers": {"eip155:*": []},
}


class FacilitatorDouble(ThreadingHTTPServer):
    """Counts what it was asked, so that tests can tell who settled how often."""

    daemon_threads = True

    def __init__(self, network: Network) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.network = network
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def verify(self, instruction: Instruction) -> dict[str, Any]:
        payer = "0x" + instruction.authorization.payer.hex()
        revert = self.network.verify([instruction])[0]
        if revert is not None:
            return {"isValid": False, "invalidReason": revert.code, "payer": payer}
        return {"isValid": True, "payer": payer}

    def settle(self, instruction: Instruction) -> dict[str, Any]:
        base = {"network": SANDBOX_NETWORK, "payer": "0x" + instruction.authorization.payer.hex()}
        result = self.network.submit([instruction])[0]
        if isinstance(result, Mined):
            return {"success": True, "transaction": "0x" + result.hash.hex(), **base}
        return {"success": False, "errorReason": "invalid_transaction_state", "transaction": "", **base}


class _Handler(BaseHTTPRequestHandler):
    server: FacilitatorDouble
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self._answer(SUPPORTED if self.path == "/supported" else {"error": "not found"})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        requirements = asked["paymentRequirements"]
        try:
            authorization, signature = parse_payload(asked["paymentPayload"]["payload"])
        except MicropaywallError:
            self._answer({"isValid": False, "success": False, "invalidReason": "invalid_payload"})
            return
        instruction = Instruction(SANDBOX_TOKEN.address, SANDBOX_CHAIN_ID, authorization, signature)
        wanted = (requirements["network"], requirements["amount"], requirements["payTo"].lower())
        if wanted != (SANDBOX_NETWORK, str(authorization.value), "0x" + authorization.payee.hex()):
            self._answer({"isValid": False, "success": False, "invalidReason": "invalid_payment_requirements"})
            return
        judge = self.server.verify if self.path == "/verify" else self.server.settle
        self._answer(judge(instruction))

    def _answer(self, members: dict[str, Any]) -> None:
        body = json.dumps(members).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the tests look at ``asked``."""


@contextmanager
def facilitator(network: Network) -> Iterator[FacilitatorDouble]:
    """Serve while the block runs."""
    server = FacilitatorDouble(network)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
