"""One file per revision, additive only."""
