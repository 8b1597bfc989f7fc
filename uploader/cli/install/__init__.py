"""Installing Headgate as a service: users, folders, files, units, versions."""
