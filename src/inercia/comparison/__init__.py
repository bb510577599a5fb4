"""Iterates against flows: gaps, energies, orders of agreement, runs at the edge of stability."""
