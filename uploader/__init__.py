"""The batch uploader, its crontab and the ``headgate`` command. Knows nothing of Flask."""
