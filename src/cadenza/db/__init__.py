"""Postgres: connections with identity and a budget, the embedded server, migrations, leases."""
