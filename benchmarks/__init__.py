"""Figures of this project, measured as ratios in one run; each writes JSON."""
