"""Which users get the new path: policies, their compiled form, decisions, and who changed them."""
