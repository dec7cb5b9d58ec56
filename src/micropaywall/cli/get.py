"""``micropaywall get``: request a URL and pay for it when it asks."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from micropaywall import limits
from micropaywall.cli.exits import ExitCode
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.errors import ResponseTooLarge

if TYPE_CHECKING:
    from micropaywall.client import Paid

__all__ = ["get"]


@click.command()
@click.argument("url")
@click.option("-X", "--request", "method", metavar="METHOD", help="Default: GET, or POST with -d.")
@click.option("-d", "--data", metavar="DATA", help="Request body; @FILE takes it from a file, - from standard input.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="May be given several times.")
@click.option(
    "--max", "max_price", metavar="PRICE", help="Pay at most so much, for example '$0.01' (in single quotes)."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the body to a file.")
@click.option(
    "--wallet", metavar="NAME", help="Pay from this wallet. Default: the default one, which is the sandbox's."
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The wallet's passphrase: the first line of a file that only you can read.",
)
@click.option(
    "--allow-env-key", is_flag=True, help="Take the secret key from MICROPAYWALL_PRIVATE_KEY in the environment."
)
@click.option("--yes", "-y", is_flag=True, help="Approve what the policy would ask a person for.")
@config_option
@json_option
def get(
    out: Output,
    url: str,
    method: str | None,
    data: str | None,
    headers: tuple[str, ...],
    max_price: str | None,
    output: Path | None,
    wallet: str | None,
    passphrase_file: Path | None,
    allow_env_key: bool,
    yes: bool,
    config_file: Path | None,
) -> int:
    """Request URL, and pay for it when it asks and the budget allows it.

    \b
    micropaywall get http://localhost:3000/api/resource
    micropaywall get https://api.example.com/report --max '$0.01' -o report.pdf
    micropaywall get https://api.example.com/words -d @text.txt -X PUT

    The body goes to standard output as it comes, the receipt to standard error. With --json, one JSON object has the status, the
    headers, the body, the receipt and the payment.

    Exit codes: 0 served · 2 usage · 3 budget or policy refused, nothing was signed · 4 the seller refused the payment · 5 the
    outcome is not known: run the same command again, which sends the same payment again · 6 any other failure.
    """  # noqa: D301  (click's mark for lines that are not to be refilled is a real backspace)
    from micropaywall.cli import buyer_parts
    from micropaywall.settings import load_settings

    body = _body(data)
    buyer = buyer_parts.payer(
        load_settings(config_file).settings.buyer,
        wallet=wallet,
        passphrase_file=passphrase_file,
        allow_env_key=allow_env_key,
        max_price=max_price,
        yes=yes,
    )
    lines = [_header(line) for line in headers]
    if body is not None and not any(name.lower() == "content-type" for name, _ in lines):
        lines.append(("Content-Type", "application/x-www-form-urlencoded"))
    verb = (method or ("GET" if body is None else "POST")).upper()
    try:
        with buyer_parts.http_client(buyer, follow_redirects=True, timeout=limits.SETTLE_TIMEOUT_S * 2) as client:
            request = client.build_request(verb, _url(url), headers=lines, content=body)
            response = client.send(request, stream=True)
            try:
                return _show(out, response, output)
            finally:
                response.close()
    finally:
        buyer.close()


def _url(text: str) -> str:
    return text if "://" in text else f"http://{text}"


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data in ("-", "@-"):
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return data.encode("utf-8", "surrogateescape")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{line!r} is no header; 'Accept: text/plain' is.", param_hint="-H")
    return name.strip(), value.strip()


def _show(out: Output, response: Any, output: Path | None) -> int:
    from micropaywall.client import paid

    bought = paid(response)
    served = response.status_code < 400
    if out.as_json:
        body = b"".join(_bounded(response))
        if output is not None:
            output.write_bytes(body)
        out.document(_document(response, body, bought))
    elif output is not None:
        with output.open("wb") as file:
            _copy(response, file)
    else:
        _print(out, response)
    if not out.as_json:
        _receipt(out, response, bought)
    return ExitCode.DONE if served else ExitCode.FAILED


def _bounded(response: Any) -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > limits.RESPONSE_BYTES_MAX:
            raise ResponseTooLarge(
                "the answer is larger than what is held in memory",
                expected=f"at most {limits.RESPONSE_BYTES_MAX:,} bytes",
                hint="Without --json it is passed on as it comes, whatever its size.",
            )
        yield chunk


def _copy(response: Any, file: BinaryIO) -> None:
    for chunk in response.iter_bytes():
        file.write(chunk)
        file.flush()


def _print(out: Output, response: Any) -> None:
    """The body as it comes. Bytes that are no text stay off a terminal: they could do anything to it."""
    if not sys.stdout.isatty() or _is_text(response.headers.get("content-type", "")):
        sys.stdout.flush()
        last = b"\n"
        for chunk in response.iter_bytes():
            sys.stdout.buffer.write(_harmless(chunk) if sys.stdout.isatty() else chunk)
            sys.stdout.buffer.flush()
            last = chunk[-1:] or last
        if sys.stdout.isatty() and last != b"\n":
            sys.stdout.write("\n")
        return
    size = sum(len(chunk) for chunk in response.iter_bytes())
    kind = response.headers.get("content-type", "no type")
    out.remark(f"{size:,} bytes ({kind}) are not shown on a terminal; -o FILE keeps them", "yellow")


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind.endswith(("json", "xml", "javascript", "x-www-form-urlencoded")) or not kind


def _harmless(chunk: bytes) -> bytes:
    """Text from a stranger without the control characters that a terminal obeys."""
    return chunk.translate(None, delete=bytes([*range(9), 11, 12, *range(14, 32), 127]))


def _document(response: Any, body: bytes, bought: Paid | None) -> dict[str, object]:
    from micropaywall.cli.purchases import purchase_document

    try:
        content: dict[str, object] = {"body": body.decode()}
    except UnicodeDecodeError:
        content = {"bodyBase64": base64.b64encode(body).decode()}
    receipt = bought.receipt if bought else None
    return {
        "status": response.status_code,
        "url": str(response.url),
        "headers": [[name, value] for name, value in response.headers.multi_items()],
        **content,
        "receipt": None
        if receipt is None
        else {
            "paymentId": receipt.payment_id,
            "settled": receipt.settled,
            "transaction": receipt.transaction,
            "network": receipt.network,
            "payer": receipt.payer,
            "amountAtomic": str(receipt.amount_atomic),
        },
        "payment": None if bought is None else purchase_document(bought.purchase),
    }


def _receipt(out: Output, response: Any, bought: Paid | None) -> None:
    """What it cost, beside the body."""
    from micropaywall.core.purchase import PurchaseState

    if bought is None:
        if response.status_code >= 400:
            phrase = f"{response.status_code} {response.reason_phrase}".rstrip()
            what = "a 402 of a kind that cannot be paid here" if response.status_code == 402 else "nothing was paid"
            out.remark(f"{phrase}: {what}", "yellow")
        return
    purchase, receipt = bought.purchase, bought.receipt
    if purchase.state is not PurchaseState.SERVED:
        moved = {
            "no": "nobody was charged",
            "yes": "the money has moved",
            "unknown": "whether money moved is not known",
        }
        out.remark(f"{response.status_code} {response.reason_phrase}: {moved[purchase.money_moved]}", "yellow")
        out.remark_pairs([("payment", f"{purchase.payment_id} ({purchase.state.value})")])
        return
    state = "no receipt came" if receipt is None else "settled" if receipt.settled else "settles later"
    sign = out.err_screen.style(out.err_screen.text("✓"), "green")
    out.remark(f"{sign} paid {purchase.price} to {purchase.authority}")
    items = [("payment", f"{purchase.payment_id} ({state})")]
    if purchase.transaction:
        items.append(("transaction", purchase.transaction))
    items += [("from", purchase.payer), ("to", f"{purchase.payee} on {purchase.network}")]
    out.remark_pairs(items)
