"""The byte budget: what may leave, and what has left, across runs, kills and reboots."""
