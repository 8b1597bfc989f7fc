"""Pictures that reached this machine in another way are handed to its receiver."""
