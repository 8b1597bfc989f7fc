"""What a run asks of the place where images go, whatever its protocol."""
