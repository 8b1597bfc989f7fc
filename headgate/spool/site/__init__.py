"""The site's own records, of which there is no other copy: devices, runs, jobs, alerts."""
