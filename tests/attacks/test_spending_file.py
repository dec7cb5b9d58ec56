"""A budget that lives in a file is no budget when the file under a running program is another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.kit.purchases import CREDENTIAL, draft

from micropaywall.clock import ManualClock
from micropaywall.core.budget import Budget
from micropaywall.errors import StoreUnavailable
from micropaywall.ids import ReplayKey
from micropaywall.spending.store import SpendingStore

MANY = Budget.parse("$1000 a month")


def remove(path: Path) -> None:
    for file in path.parent.glob(path.name + "*"):
        file.unlink()


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_nothing_is_promised_from_a_store_whose_file_is_gone(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "spending.db"
    with SpendingStore(path, ManualClock()) as store:
        held, _ = store.reserve(draft(1000), MANY)
        if os.name == "nt":  # there, nobody deletes a file that is open
            with pytest.raises(PermissionError):
                path.unlink()
            return
        remove(path)
        if replaced:
            SpendingStore(path, ManualClock()).close()
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            store.reserve(draft(1000), MANY)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            store.journal(held, ReplayKey(b"k" * 32), CREDENTIAL, 2_000_000_000)
    if replaced:
        with SpendingStore(path, ManualClock()) as fresh:
            assert fresh.reserve(draft(1000), MANY)[1]
