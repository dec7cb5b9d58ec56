"""Our middleware around the bare app: one priced route, one that is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bare import app as bare_app

from micropaywall import Paywall

PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"

paywall = Paywall(
    {
        "GET /api/resource": {
            "price": "$0.001",
            "settle": os.environ.get("BENCH_SETTLE", "after"),
            "exposure_atomic": 10**12,
        }
    },
    pay_to=PAY_TO,
    ledger=f"sqlite:///{os.environ['BENCH_LEDGER']}",
    background=os.environ.get("BENCH_BACKGROUND", "0") == "1",
)
app = paywall.asgi(bare_app)
