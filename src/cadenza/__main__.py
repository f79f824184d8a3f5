"""`python -m cadenza`."""

from cadenza.cli.main import run

run()
