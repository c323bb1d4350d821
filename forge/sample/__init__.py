"""Believable data in any amount, for looking at Forge and for measuring it. Bulk inserts only."""
