"""The status page: its data, charts and thumbnails."""
