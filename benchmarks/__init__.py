"""Measurements: speed as ratios in one run, accuracy in tables."""
