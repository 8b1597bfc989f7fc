"""Benchmarks beside the peers, for people: every contender in turn, figures side by side, a table.

Run by ``make bench``; no test asserts a time. Not installed.
"""
