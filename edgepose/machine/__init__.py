"""This machine: its GPU, its board, its packages, and what it lacks."""
