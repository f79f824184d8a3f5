"""SQL of the calendar flow: entries with their revisions, runs, the commit of a run's entries."""
