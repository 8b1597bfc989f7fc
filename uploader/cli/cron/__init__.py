"""Cron's line: made, read, rehearsed, put into a tab and taken out again."""
