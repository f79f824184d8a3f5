"""SQL of the calendar flow."""
