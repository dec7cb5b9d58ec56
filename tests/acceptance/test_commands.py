"""The commands around buying and selling, as a user types them: wallets, budgets, settings, the sandbox, the doctor."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.acceptance.conftest import run, serving


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery staple\n")
    file.chmod(0o600)
    return file


# -- wallets ----------------------------------------------------------------------------------------------------------


def test_a_wallet_is_made_listed_and_pays(tmp_path: Path, passphrase: Path) -> None:
    made = run(tmp_path, "wallet", "create", "main", "--passphrase-file", str(passphrase), "--default", "--json").json
    assert made["default"] is True
    file = Path(made["file"])
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry["name"] for entry in run(tmp_path, "wallet", "list", "--json").json] == ["main"]
    with serving(tmp_path, "--sandbox") as seller:
        url = seller.url + "/api/resource"
        done = run(tmp_path, "get", url, "--passphrase-file", str(passphrase), "--json")
        assert done.json["payment"]["metadata"]["payer"] == made["address"]
        without = run(tmp_path, "get", url, "--json")
        assert (without.code, without.problem["code"]) == (6, "wallet_error")


def test_a_key_is_imported_from_standard_input_and_never_shown(tmp_path: Path, passphrase: Path) -> None:
    key = "11" * 32
    done = run(
        tmp_path, "wallet", "import", "old", "--key-file", "-", "--passphrase-file", str(passphrase), stdin=key.encode()
    )
    assert done.code == 0, done.err
    assert "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A" in done.out
    everything = done.out + done.err + "".join(f.read_text() for f in (tmp_path / "wallets").iterdir())
    assert key not in everything


def test_a_keystore_of_another_program_is_taken_when_its_passphrase_opens_it(tmp_path: Path, passphrase: Path) -> None:
    made = run(tmp_path / "a", "wallet", "create", "w", "--passphrase-file", str(passphrase), "--json").json
    arguments = ["wallet", "import", "copy", "--keystore", made["file"], "--json"]
    assert run(tmp_path / "b", *arguments, "--passphrase-file", str(passphrase)).json["address"] == made["address"]
    passphrase.write_text("wrong\n")
    wrong = run(tmp_path / "c", *arguments, "--passphrase-file", str(passphrase))
    assert wrong.problem["code"] == "passphrase_wrong"


def test_a_wallet_is_not_overwritten(tmp_path: Path, passphrase: Path) -> None:
    run(tmp_path, "wallet", "create", "w", "--passphrase-file", str(passphrase))
    before = (tmp_path / "wallets" / "w.json").read_bytes()
    again = run(tmp_path, "wallet", "create", "w", "--passphrase-file", str(passphrase), "--json")
    assert (again.code, again.problem["code"]) == (6, "wallet_error")
    assert (tmp_path / "wallets" / "w.json").read_bytes() == before


def test_a_key_in_the_environment_pays_only_when_one_insists(tmp_path: Path) -> None:
    env = {"MICROPAYWALL_PRIVATE_KEY": "22" * 32}
    with serving(tmp_path, "--sandbox") as seller:
        url = seller.url + "/api/resource"
        assert run(tmp_path, "get", url, "--allow-env-key", "--json", **env).json["status"] == 200
        plain = run(tmp_path, "get", url, "--json", **env).json
    addresses = {entry["address"] for entry in run(tmp_path, "wallet", "list", "--json").json}
    assert plain["payment"]["metadata"]["payer"] in addresses, "the sandbox wallet paid, not the variable"


def test_the_faucet_fills_a_wallet_and_an_address(tmp_path: Path) -> None:
    assert run(tmp_path, "wallet", "fund", "--json").json["balance"] == "2000"
    address = "0x" + "11" * 20
    assert run(tmp_path, "wallet", "fund", address, "0.5 USDC", "--json").json["balance"] == "1000.5"
    assert run(tmp_path, "wallet", "balance", address, "--json").json[0]["balanceAtomic"] == "1000500000"


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_limits_are_set_shown_with_what_was_spent_and_taken_away(tmp_path: Path) -> None:
    assert run(tmp_path, "budget", "show", "--json").json["default"] is True
    run(tmp_path, "budget", "set", "$0.01 each, $0.002 a day")
    with serving(tmp_path, "--sandbox") as seller:
        codes = [run(tmp_path, "get", seller.url + "/api/resource").code for _ in range(3)]
    assert codes == [0, 0, 3]
    shown = run(tmp_path, "budget", "show", "--json").json
    assert shown["default"] is False
    play = next(row for row in shown["limits"] if row["money"] == "play")
    assert (play["spent"], play["left"]) == ("0.002", "0")
    assert run(tmp_path, "budget", "set", "--none", "--json").json["limits"] == []


def test_limits_in_the_configuration_hold_too(tmp_path: Path) -> None:
    (tmp_path / "micropaywall.toml").write_text('[[buyer.budgets]]\nlimit = "$0.0001"\nwindow = "payment"\n')
    with serving(tmp_path, "--sandbox") as seller:
        done = run(tmp_path, "get", seller.url + "/api/resource", "--json")
    assert (done.code, done.problem["code"]) == (3, "budget_exceeded")


def test_a_policy_that_asks_is_refused_when_there_is_nobody_to_ask(tmp_path: Path) -> None:
    (tmp_path / "micropaywall.toml").write_text('[buyer]\napprove_above = "$0.0005"\n')
    with serving(tmp_path, "--sandbox") as seller:
        url = seller.url + "/api/resource"
        refused = run(tmp_path, "get", url, "--json")
        approved = run(tmp_path, "get", url, "--yes", "--json")
    assert (refused.code, refused.problem["code"]) == (3, "approval_denied")
    assert approved.json["status"] == 200


# -- settings ---------------------------------------------------------------------------------------------------------


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "micropaywall.toml").write_text('[server]\nport = 4000\nhost = "${WHERE:-127.0.0.2}"\n')
    done = run(tmp_path, "config", "show", "--origin", "--json", MICROPAYWALL_SERVER_WORKERS="2")
    settings = done.json["settings"]
    assert settings["server.port"]["origin"].startswith("file")
    assert settings["server.host"]["value"] == "127.0.0.2"
    assert settings["server.workers"] == {"value": 2, "origin": "environment MICROPAYWALL_SERVER_WORKERS"}
    assert settings["server.tls_key"]["origin"] == "default"


# -- the sandbox network ----------------------------------------------------------------------------------------------


def test_a_reorganisation_on_request_takes_a_payment_back_and_the_seller_settles_it_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox") as seller:
        paid = run(tmp_path, "get", seller.url + "/api/resource", "--json").json
        before = run(tmp_path, "wallet", "balance", "--json").json[0]["balance"]
        head = run(tmp_path, "sandbox", "status", "--json").json["block"]
        undone = run(tmp_path, "sandbox", "reorg", "2", "--json").json
        assert undone["block"] >= head
        identifier = paid["payment"]["metadata"]["paymentId"]
        for _ in range(40):
            state = run(tmp_path, "ledger", "show", identifier, "--json").json["state"]
            now = run(tmp_path, "wallet", "balance", "--json").json[0]["balance"]
            if state in ("settled", "final") and now == before:
                break
    assert (state in ("settled", "final"), now) == (True, before)


def test_blocks_are_made_on_request(tmp_path: Path) -> None:
    first = run(tmp_path, "sandbox", "mine", "5", "--json").json["block"]
    assert run(tmp_path, "sandbox", "status", "--json").json["block"] >= first >= 5


def test_every_fault_is_listed_with_its_meaning(tmp_path: Path) -> None:
    listed = run(tmp_path, "sandbox", "faults", "--json").json
    assert {"settle_answer_lost_after", "slow", "reorganisation", "insufficient_funds"} <= {f["fault"] for f in listed}
    assert all(fault["meaning"] for fault in listed)


# -- the doctor -------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_a_new_installation_healthy(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json")
    assert (done.code, done.json["healthy"]) == (0, True)


def test_the_doctor_finds_an_empty_wallet_a_stop_and_an_open_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, "wallet", "fund")
    run(home, "budget", "set", "--stop")
    if os.name == "posix":
        home.chmod(0o755)
    (home / "micropaywall.toml").write_text('[rails.sandbox]\ninitial_balance = "0"\n')
    run(home, "sandbox", "status")
    found = {finding["name"]: finding["level"] for finding in run(home, "doctor", "--json").json["findings"]}
    assert found["kill-switch"] == "warn"
    if os.name == "posix":
        assert found["home"] == "warn"


def test_the_doctor_explains_a_running_seller_and_a_saved_answer(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox") as seller:
        done = run(tmp_path, "doctor", seller.url + "/api/resource", "--json")
        assert (done.code, done.json["healthy"]) == (0, True)
        offer = next(finding for finding in done.json["findings"] if finding["name"] == "offer")
        assert (offer["amount"], offer["payable"]) == ("1000", True)
        free = run(tmp_path, "doctor", seller.url + "/health", "--json")
        assert (free.code, free.json["healthy"]) == (1, False)
        words = run(tmp_path, "doctor", seller.url + "/api/words", "-X", "post", "--json")
        assert words.json["healthy"] is True


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[seller]\npay_to = '0x413De4C78dCc19bBe669Fe8e6a36437DFf0C7332'\n", "pay_to"),
        ("[server]\nallow_plain_http = true\nhost = '0.0.0.0'\n", "public_url"),
        ("[server]\nhost = '0.0.0.0'\n", "transport"),
        ("[server]\napp = 'no_such_module:app'\n", "app"),
        ("[server]\ntls_cert = 'a.pem'\ntls_key = 'b.pem'\n", "tls"),
        ("[ledger]\nurl = 'sqlite:////no/such/directory/ledger.db'\n", "ledger"),
        ("[rails.sandbox]\nfaults = ['nonsense']\n", "settings"),
        ("[sellers]\n", "settings"),
        ("not toml", "settings"),
    ],
)
def test_the_doctor_finds_what_is_wrong_with_a_configuration(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "shop.toml").write_text(text)
    done = run(tmp_path, "doctor", "shop.toml", "--json", cwd=tmp_path)
    wrong = [finding["name"] for finding in done.json["findings"] if finding["level"] == "bad"]
    assert (done.code, name in wrong) == (1, True), done.out


def test_the_doctor_says_when_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert run(tmp_path, "doctor", "no-such-file").code == 2
    assert run(tmp_path, "doctor", "http://127.0.0.1:1/", "--json").problem["code"] == "challenge_invalid"


# -- all of them ------------------------------------------------------------------------------------------------------


def test_both_names_and_the_module_are_one_program(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert done.out.startswith("micropaywall ")
    assert json.loads(run(tmp_path, "doctor", "--json").out)["findings"][0]["versions"]["micropaywall"] in done.out
