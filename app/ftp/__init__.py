"""Pictures over FTP and FTPS, for cameras that speak no HTTP: a program of its own."""
