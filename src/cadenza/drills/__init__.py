"""Proofs against a running Cadenza, by its own API: the smoke test, and later the drills."""
