"""Migrating a hosted Postgres, where the owner's login is no superuser."""

from pathlib import Path

import psycopg
import pytest

from cadenza.db.embedded import embedded_postgres
from cadenza.db.embedded_place import erase_data
from cadenza.db.migrate import allow_login, current, head, migrate

# What Supabase's own roles are allowed, as their dumps show it.
HOSTED = """
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE hosted_owner LOGIN CREATEROLE CREATEDB BYPASSRLS PASSWORD 'owner';
GRANT anon, authenticated TO hosted_owner WITH ADMIN OPTION;
CREATE DATABASE hosted OWNER hosted_owner;
"""


@pytest.mark.parametrize("attribute", ["BYPASSRLS", "NOBYPASSRLS"])
def test_an_owner_who_is_no_superuser_migrates_and_reads_the_revision(
    tmp_path: Path, attribute: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with embedded_postgres(home, fast=True) as server:
        with psycopg.connect(server.dsn, autocommit=True) as superuser:
            for statement in HOSTED.split(";\n"):
                superuser.execute(statement.encode())
            superuser.execute(f"ALTER ROLE hosted_owner {attribute}".encode())
        owner = f"postgresql://hosted_owner:owner@127.0.0.1:{server.port}/hosted"

        assert migrate(owner) == head()
        assert migrate(owner) == head()
        allow_login(owner, "app")

        service = f"postgresql://cadenza_app:app@127.0.0.1:{server.port}/hosted"
        assert [current(owner), current(service)] == [head(), head()]
    erase_data(home)
