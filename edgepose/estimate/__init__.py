"""Whole jobs over one frame: who is where, and in which pose."""
