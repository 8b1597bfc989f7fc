"""What people do to a site, by a command or on the page: each rule once, each with its line in the
audit log."""
