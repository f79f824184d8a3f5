"""A world to practise on: a program of its own that plays the AI provider; reached by URL only."""
