"""Alembic's environment; the revisions are plain SQL."""
