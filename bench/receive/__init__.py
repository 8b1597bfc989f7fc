"""The receiver beside its peers: images a second, latency, CPU an image, memory; all stored bytes
compared with what was sent.
"""
