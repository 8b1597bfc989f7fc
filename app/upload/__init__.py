"""One upload: its body, form, fields and digests, until it is durable."""
