"""Words that every floor uses: checks of arguments, trees as vectors, paths, and what a method is."""
