"""Alembic's entry point: plain SQL revisions, as the schema's owner, one transaction each."""

from typing import Any

from alembic import context
from sqlalchemy import create_engine, pool, text

OPTIONS: dict[str, Any] = {
    "target_metadata": None,
    "version_table": "schema_version",
    "version_table_schema": "cadenza",
    "transaction_per_migration": True,
}


def _run() -> None:
    with context.begin_transaction():
        context.run_migrations()


def _offline() -> None:
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    context.execute("SET lock_timeout = '100ms'")
    context.execute("SET statement_timeout = '30s'")
    _run()


def _online() -> None:
    engine = create_engine(
        context.config.attributes["dsn"],
        poolclass=pool.NullPool,
        connect_args={"prepare_threshold": None, "connect_timeout": 5},
    )
    with engine.connect() as connection:
        connection.execute(text(context.config.attributes["bootstrap"]))
        connection.commit()
        connection.execute(text("SET ROLE cadenza_owner"))
        connection.execute(text("SET lock_timeout = '100ms'"))
        connection.execute(text("SET statement_timeout = '30s'"))
        connection.commit()
        context.configure(connection=connection, **OPTIONS)
        _run()
    engine.dispose()


if context.is_offline_mode():
    _offline()
else:
    _online()
