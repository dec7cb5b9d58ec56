"""What a peer client prints: one JSON line on stdout, nothing else."""

from __future__ import annotations

import base64
import json
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn


def decode_receipt(value: str | None) -> Any:
    """The JSON inside a PAYMENT-RESPONSE or X-PAYMENT-RESPONSE header, or None."""
    return json.loads(base64.b64decode(value)) if value else None


def finish(status: int, headers: Mapping[str, str], text: str, receipt_header: str) -> NoReturn:
    """Print the answer and end; success means a 2xx answer."""
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    receipt = decode_receipt(headers.get(receipt_header))
    success = 200 <= status < 300
    print(json.dumps({"success": success, "status": status, "body": body, "payment_response": receipt}), flush=True)
    sys.exit(0 if success else 1)


def _failure_line(kind: type[BaseException], failure: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, failure, trace)
    print(json.dumps({"success": False, "error": f"{kind.__name__}: {failure}"}), flush=True)


sys.excepthook = _failure_line
"""An exception that the SDK lets out becomes the failure line; the exit code is 1."""
