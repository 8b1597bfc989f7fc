"""Everything about sending to S3: one metered, confirmed attempt for each call."""
