"""From iterates to differential equations and back: paths, solvers, and flows of higher order."""
