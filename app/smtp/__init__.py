"""Pictures by mail, for cameras that speak neither HTTP nor FTP: a program of its own."""
