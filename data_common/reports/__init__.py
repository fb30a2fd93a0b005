"""Pages that people open in a browser: a sample of rows, pictures, one file without a network."""
