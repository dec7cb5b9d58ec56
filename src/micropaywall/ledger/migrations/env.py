"""Run by Alembic with the connection that `upgrade` gave it: all steps in one transaction, or none of them."""

from __future__ import annotations

from alembic import context

from micropaywall.ledger.schema import metadata


def run() -> None:
    """Take the steps that were asked for."""
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=metadata,
        # SQLite's DDL is; Alembic assumes that the driver gets in the way, and ours does not (see `upgrade`).
        transactional_ddl=True,
        process_revision_directives=attributes.get("process_revision_directives"),
    )
    with context.begin_transaction():
        context.run_migrations()


if hasattr(context, "config"):  # else it is imported like any module, and nothing is under way
    run()
