"""Data cards: what a file was made from, by its manifests."""
