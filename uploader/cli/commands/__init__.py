"""One file for each command: flags, a call, what it prints, its exit code."""
