"""The record: what every round leaves behind for an outsider to check."""
