"""The index of the images that are alive, and what each device has sent."""
