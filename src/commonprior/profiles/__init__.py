"""Boards, chips and networks as cited data."""
