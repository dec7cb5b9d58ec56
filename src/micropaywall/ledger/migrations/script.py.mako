# ruff: noqa: E501 - conditions are one text each
"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To ${up_revision}."""
    ${upgrades if upgrades else "pass"}
