"""The outside world of publishing: what each social network takes, and what it would be sent."""
