"""What happened, told once: context, log lines, counters and outcome rows of one object."""
