"""Measurements behind the pages in docs/measurements/."""
