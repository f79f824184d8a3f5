"""Calendars: asked for, drafted, kept, edited, exported."""
