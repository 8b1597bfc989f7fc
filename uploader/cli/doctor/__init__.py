"""What this machine needs so that no image is lost: looked at, judged, and how to mend it."""
