"""Checks that this machine cannot lose images: collects facts, judges them, and says how to fix
them."""
