"""From a saved entry to a durable wish to publish it, and what became of that wish."""
