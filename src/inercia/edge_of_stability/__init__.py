"""Curvature, stability, and the flow that follows the iterates where plain flows leave them."""
