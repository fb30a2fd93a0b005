"""Two scores of the same rows against each other."""
