"""An image: its name, its metadata, the states it goes through. Pure."""
