"""The explorer: one page of JavaScript that shows iterates beside their flow, and what puts it together."""
