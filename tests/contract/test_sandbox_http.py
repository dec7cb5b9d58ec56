"""The sandbox chain over HTTP: every call arrives as it was made, and what is malformed, lost or foreign is told apart."""

from __future__ import annotations

import http.client
import inspect
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.kit.chain import PAYEE, instruct, new_key

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.errors import RailError, Unavailable
from micropaywall.sandbox.chain import ABSENT, Mined, Network, Pending, Revert, Reverted, Rules
from micropaywall.sandbox.client import RemoteNetwork
from micropaywall.sandbox.faults import parse_faults
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.rail import open_network
from micropaywall.sandbox.server import SandboxServer
from micropaywall.sandbox.signing import cancel_digest
from micropaywall.sandbox.wire import CALLS, PATH, decode, encode

KEY = new_key()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[SandboxNetwork]:
    network = SandboxNetwork(tmp_path / "sandbox.db", clock=ManualClock())
    yield network
    network.close()


@pytest.fixture
def server(local: SandboxNetwork) -> Iterator[SandboxServer]:
    with SandboxServer(local, port=0) as server:
        yield server


@pytest.fixture
def remote(server: SandboxServer) -> Iterator[RemoteNetwork]:
    network = RemoteNetwork(server.url)
    yield network
    network.close()


def test_every_call_of_the_network_travels() -> None:
    methods = {name for name, _ in inspect.getmembers(Network, inspect.isfunction) if not name.startswith("_")}
    assert set(CALLS) == methods - {"close"}
    for name, call in CALLS.items():
        parameters = list(inspect.signature(getattr(Network, name)).parameters)[1:]
        assert list(call.arguments) == parameters, name


def test_the_same_calls_have_the_same_answers_as_on_the_file(tmp_path: Path) -> None:
    """One long conversation, held with a file and with a server of another file."""
    transfers = [instruct(KEY, value) for value in (1, 2, 3)]
    waiting, huge = instruct(KEY, 4), instruct(KEY, 2**256 - 1)
    payer, nonce = transfers[2].authorization.payer, transfers[2].authorization.nonce
    signature = KEY.sign_digest(cancel_digest(payer, nonce))
    key = bytes(range(32))
    faults = parse_faults(["slow=2.5", "late", "rejected=invalid_payload"])

    def talk(network: Network) -> list[Any]:
        said: list[Any] = [network.rules(), network.head(), network.balances([payer, PAYEE])]
        said += [network.verify([*transfers, huge]), network.submit(transfers[:2]), network.submit([huge])]
        said += [network.submit([waiting], delay_blocks=2), network.lookup([*transfers, waiting])]
        said += [network.authorization_state(payer, t.authorization.nonce) for t in (*transfers, waiting)]
        said += [network.cancel(payer, nonce, b"junk"), network.cancel(payer, nonce, signature)]
        said += [network.transfer(PAYEE, payer, 1, key=key), network.fund(payer, 9, key=key)]
        said += [network.revoke(payer, waiting.authorization.nonce), network.mine(2)]
        (mined,) = network.submit(transfers[:1])
        assert isinstance(mined, Mined)
        said += [mined, network.receipt(mined.hash), network.receipt(key), network.logs(0, 100)]
        said += [network.logs(0, 100, address=PAYEE, limit=1), network.reorganise(1, drop=[mined.hash], again="later")]
        said += [network.reorganise(1), network.mine(), network.lookup(transfers)]
        network.add_faults(key, faults)
        said += [network.strike(key, faults[0]), network.strike(key, faults[0]), network.fault_states([key, payer * 2])]
        network.configure(Rules(initial_balance=5, automine=False, block_interval_ms=0, finality_depth=2))
        said += [network.rules(), network.submit([instruct(new_key(), 1, nonce=key)])[0].__class__]
        return said

    with closing(SandboxNetwork(tmp_path / "a.db", clock=ManualClock())) as file:
        expected = talk(_with_states(file))
    with (
        closing(SandboxNetwork(tmp_path / "b.db", clock=ManualClock())) as file,
        SandboxServer(file, port=0) as server,
        closing(RemoteNetwork(server.url)) as network,
    ):
        assert talk(_with_states(network)) == expected


def _with_states(network: Network) -> Network:
    """Fault states are sequences of any kind; keys there are made 32 bytes long."""
    states = network.fault_states
    network.fault_states = lambda keys: [list(s) for s in states([k[:32] for k in keys])]  # type: ignore[method-assign]
    return network


def test_values_survive_the_wire() -> None:
    for form, value in (
        ("result", Mined(secrets.token_bytes(32), 5, final=True)),
        ("result", Pending(bytes(32))),
        ("result", Reverted(Revert.BALANCE)),
        ("result", ABSENT),
        ("revert?[]", [None, Revert.EXPIRED]),
        ("transfer", instruct(KEY, 2**255)),
        ("rules", Rules(7, automine=False, block_interval_ms=9, finality_depth=3)),
        ("drop", "all"),
        ("drop", [bytes(32)]),
        ("nothing", None),
    ):
        assert decode(form, json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("number", True),
        ("number", 1.0),
        ("number", 2**63),
        ("number", "1"),
        ("address", "00" * 19),
        ("word", "00" * 33),
        ("word", "zz" * 32),
        ("transfer", "{}"),
        ("transfer", "é"),
        ("result", {"is": "mined"}),
        ("result", {"is": "settled"}),
        ("result", []),
        ("revert", "NOPE"),
        ("state", 1),
        ("fault", "nonsense"),
        ("rules", {"initial_balance": -1, "automine": True, "block_interval_ms": 0, "finality_depth": 1}),
        ("number[]", 5),
        ("drop", "some"),
        ("nothing", 0),
        ("receipt", {}),
    ],
)
def test_what_is_not_of_its_form_is_refused(form: str, value: object) -> None:
    with pytest.raises(RailError):
        decode(form, value)


# -- the server's door ------------------------------------------------------------------------------------------------


def request(
    server: SandboxServer, method: str = "POST", name: str = "head", body: bytes = b"{}", **headers: str
) -> tuple[int, Any]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    with closing(connection):
        fields = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, PATH + name if "/" not in name else name, body, fields)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")


def test_the_server_says_what_it_is(server: SandboxServer) -> None:
    status, document = request(server, "GET", "/", b"")
    assert (status, document["network"]) == (200, "eip155:4020402")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:80"}, 403),
        ({"host": "[::1"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"name": "nothing"}, 404),
        ({"name": "__class__"}, 404),
        ({"name": "close"}, 404),
        ({"name": "/elsewhere"}, 404),
        ({"body": b"{"}, 400),
        ({"body": b"[]"}, 400),
        ({"body": b'{"x": 1}'}, 400),
        ({"body": b"[" * 100_000}, 400),
        ({"name": "mine", "body": b'{"blocks": "1"}'}, 400),
        ({"name": "mine", "body": b'{"blocks": 0}'}, 400),
        ({"content_length": str(limits.SANDBOX_REQUEST_BYTES_MAX + 1)}, 413),
        ({"content_length": "-1"}, 413),
    ],
)
def test_what_is_no_call_is_refused(server: SandboxServer, change: dict[str, Any], status: int) -> None:
    got, problem = request(server, **change)
    assert got == status
    assert problem["code"] in ("request_refused", "rail_unusable")
    assert request(server)[0] == 200


def test_hosts_that_mean_this_machine_are_served(server: SandboxServer) -> None:
    for host in ("localhost", "localhost:4020", "127.0.0.1", "[::1]:4020", "127.8.9.1"):
        assert request(server, host=host)[0] == 200


def test_a_failure_inside_shows_nothing_of_it(
    server: SandboxServer, local: SandboxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("/home/somebody/secret")

    monkeypatch.setattr(local, "head", broken)
    status, problem = request(server)
    assert status == 500
    assert "secret" not in json.dumps(problem)


def test_a_port_that_is_taken_is_an_error_of_the_operator(server: SandboxServer, local: SandboxNetwork) -> None:
    port = urlsplit(server.url).port
    with pytest.raises(RailError):
        SandboxServer(local, port=port or 0)


# -- the client's doubts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://", "ftp://x", "http://a@b", "http://h/?q", "http://h:99999", "h"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(RailError):
        RemoteNetwork(url)


def test_open_network_knows_urls_from_files(tmp_path: Path) -> None:
    assert isinstance(open_network("http://127.0.0.1:1"), RemoteNetwork)
    file = open_network(tmp_path / "x.db")
    assert isinstance(file, SandboxNetwork)
    assert file.path == tmp_path / "x.db"
    named = open_network(f"sqlite:///{tmp_path}/y.db")
    assert isinstance(named, SandboxNetwork)
    assert named.path == tmp_path / "y.db"
    with pytest.raises(RailError):
        open_network("redis://x")


def test_the_users_own_chain_is_in_the_data_directory(micropaywall_home: Path) -> None:
    network = open_network()
    assert isinstance(network, SandboxNetwork)
    assert network.path == micropaywall_home / "sandbox.db"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable):
        RemoteNetwork(f"http://127.0.0.1:{port}").head()


def _answering(*answers: bytes) -> tuple[str, Callable[[], None]]:
    """A server that answers each connection with bytes and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def close() -> None:
        thread.join(5)
        listener.close()

    return f"http://127.0.0.1:{listener.getsockname()[1]}", close


def _http(status: int, body: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body) if length is None else length, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        _http(200, b"not json"),
        _http(200, b'{"answer": {"number": 1, "hash"', length=100),
        _http(200, b'{"answer": {"number": 1}}'),
        _http(200, b'{"answer": null}'),
        _http(200, b"[]"),
        _http(200, b"{}"),
        _http(502, b"<html>bad gateway</html>"),
        _http(502, b'{"detail": "bad gateway"}'),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_answer(answer: bytes) -> None:
    url, close = _answering(answer)
    network = RemoteNetwork(url, timeout_s=5)
    with pytest.raises(Unavailable):
        network.head()
    network.close()
    close()


def test_an_answer_without_end_is_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SANDBOX_ANSWER_BYTES_MAX", 1_000)
    url, close = _answering(_http(200, b'"' + b"x" * 5_000))
    network = RemoteNetwork(url, timeout_s=5)
    with pytest.raises(Unavailable):
        network.head()
    network.close()
    close()


def test_an_answer_to_fewer_questions_than_asked_is_none() -> None:
    url, close = _answering(_http(200, b'{"answer": []}'))
    network = RemoteNetwork(url, timeout_s=5)
    with pytest.raises(Unavailable):
        network.lookup([instruct(KEY)])
    network.close()
    close()


def test_a_refusal_says_why(remote: RemoteNetwork) -> None:
    with pytest.raises(RailError):
        remote.mine(0)
    assert remote.head().number == 0


def test_a_kept_connection_that_was_closed_is_made_anew(server: SandboxServer, remote: RemoteNetwork) -> None:
    remote.head()
    sock = remote._connection.sock
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)
    assert remote.head().number == 0


def test_a_call_that_must_not_be_repeated_is_not_repeated(server: SandboxServer, remote: RemoteNetwork) -> None:
    before = remote.head().number
    sock = remote._connection.sock
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unavailable):
        remote.mine()
    assert remote.head().number == before
