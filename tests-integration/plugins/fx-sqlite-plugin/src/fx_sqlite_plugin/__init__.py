"""Checkpoints in SQLite for fx."""
