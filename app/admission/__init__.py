"""Whether an upload is admitted: credentials, room, rates, and a disk that works."""
