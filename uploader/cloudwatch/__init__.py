"""Amazon CloudWatch: the numbers of each run, a dashboard and alarms."""
