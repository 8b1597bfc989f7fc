"""Sends alerts: one message when something goes wrong, with the command that fixes it, and one
when it clears."""
