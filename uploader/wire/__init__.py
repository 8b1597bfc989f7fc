"""Metered connections: every byte that leaves is paced and charged to the ledger first."""
