"""One run: start, pick, pace, send, judge, finish."""
