"""What the receiver and the uploader share; it knows nothing of HTTP requests or S3."""
