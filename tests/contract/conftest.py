"""The ledgers under contract: the reference and every engine pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.ledgers import open_kind

from micropaywall.ledger.port import Ledger


@pytest.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Ledger]:
    opened = await open_kind(str(request.param), tmp_path)
    yield opened
    await opened.close()
