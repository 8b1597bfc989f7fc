"""What became of each uploaded image, a database for each day of arrival."""
