"""The program that serves the receiver: the WSGI server and its signals."""
