"""The 402 as a page for people: what it costs, how to pay, what happens to a payment. Under 30 kB, no script, no remote part.

Every value is escaped; the Content-Security-Policy in the answer allows nothing but the inline style with its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import Final

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5c6675;--line:#d9dee6;--card:#fff;--ground:#f4f6f9;--mark:#0b6e4f}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf2;--soft:#9aa5b4;--line:#323a46;--card:#1b212a;--ground:#12161c;--mark:#4cc38a}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:38rem;margin:8vh auto;padding:0 1.25rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.75rem}
.code{color:var(--soft);font-size:.85rem;letter-spacing:.06em;text-transform:uppercase}
h1{font-size:1.35rem;margin:.25rem 0 .75rem}.price{font-size:2.5rem;font-weight:650;margin:.25rem 0;color:var(--mark)}
.why{color:var(--soft);margin:0 0 1.25rem}.error{border-left:4px solid #c2410c;padding:.35rem .9rem;margin:0 0 1.25rem}
h2{font-size:1rem;margin:1.5rem 0 .4rem}pre{background:var(--ground);border:1px solid var(--line);border-radius:8px;
padding:.7rem .9rem;overflow-x:auto;font:.88rem/1.5 ui-monospace,monospace;margin:.3rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem}td{padding:.3rem .75rem .3rem 0;vertical-align:top}
td:first-child{color:var(--soft);white-space:nowrap}td:last-child{word-break:break-all}
footer{color:var(--soft);font-size:.85rem;margin:1.25rem .25rem}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def payment_page(
    *, url: str, description: str, price: str, offers: Sequence[tuple[str, str]], sandbox: bool, error: str | None
) -> bytes:
    """The page. ``offers`` are (label, value) rows; ``url`` what the reader asked for; all of it is escaped here."""
    rows = "".join(f"<tr><td>{escape(label)}</td><td>{escape(value)}</td></tr>" for label, value in offers)
    problem = f'<p class="error">{escape(error)}</p>' if error else ""
    money = (
        "This is a <strong>sandbox</strong>: the money is play money, and every wallet starts with 1,000 of it."
        if sandbox
        else "Payment is in digital dollars or satoshis, as listed below. There is no account to open."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Payment required: {escape(price)}</title><style>{_STYLE}</style></head>
<body><main><div class="card">
<div class="code">402 · Payment required</div>
<h1>{escape(description or "This resource has a price")}</h1>
{problem}<div class="price">{escape(price)}</div>
<p class="why">per request. {money}</p>
<h2>Pay from a terminal</h2>
<pre>pip install "micropaywall[httpx2]"
micropaywall get {escape(_shell(url))}</pre>
<h2>Pay from a program</h2>
<p class="why">Any x402 client can pay this: the offer is in the <code>PAYMENT-REQUIRED</code> header and in the JSON body.</p>
<h2>The offer</h2>
<table>{rows}</table>
</div><footer>One payment buys one answer. Sent again, the same payment gets the same answer and is not charged twice.</footer>
</main></body></html>
""".encode()


def _shell(url: str) -> str:
    return "'" + url.replace("'", "%27") + "'" if any(c in url for c in "&?;$!*() ") else url
