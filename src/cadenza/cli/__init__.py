"""The command line: one verb, one file; a client of the API, apart from `up` and `migrate`."""
