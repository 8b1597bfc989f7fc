"""The machine and its operating system: mounts, clocks, users, processes, logs, terminals."""
