"""Formats of images: which one it is, whether it is complete, how large it is. Pure."""
