"""Settings: the table of them, how each is read, and where the values come from."""
