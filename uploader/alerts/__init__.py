"""Telling somebody: what is wrong, once, with the command that mends it, and when it is good."""
