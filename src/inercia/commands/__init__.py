"""The `inercia` command."""
