"""The job queue, the other way to start runs: messages of a broker, and jobs asked for over HTTP.

A message says no more than "drain, now"; the run is the very same as cron's, under the same lock
and the same cap on disk. So a message that comes twice, late or never costs nothing but time.
"""
