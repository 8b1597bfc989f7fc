"""The disk: durable writes, where files lie, extended attributes, locks."""
