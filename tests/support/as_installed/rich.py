"""Hides rich, which only comes with schemathesis: no installation has it, so no program that a test
starts may find it. Where it is there, structlog imports it, and that doubled what starting a
receiver costs."""

raise ImportError("an installation has no rich")
