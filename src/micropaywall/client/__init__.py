"""HTTP clients that pay: pass a wallet and a budget, and use the client as always.

    import micropaywall.client.httpx2 as paying

    client = paying.Client(budget="$1 a day")
    print(client.get("http://localhost:3000/api/resource").json())

`micropaywall.client.httpx2`, `.httpx` and `.requests` have the clients; what they share is here.
"""

from __future__ import annotations

from micropaywall.client.payer import Approver, Paid, Payer, paid
from micropaywall.client.wallet import Wallet
from micropaywall.core.budget import Budget, Limit
from micropaywall.core.buyer_effects import ApprovalRequest
from micropaywall.core.policy import Policy

__all__ = ["ApprovalRequest", "Approver", "Budget", "Limit", "Paid", "Payer", "Policy", "Wallet", "paid"]
