"""Images posted to another server over HTTP: another Headgate, or any that takes uploads."""
