"""People at the page: their log-in, sessions and forms, and what they do there."""
