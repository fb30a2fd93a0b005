"""The data set and the model that need no download."""
