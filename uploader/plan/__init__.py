"""What a site needs, worked out before it is built or changed."""
