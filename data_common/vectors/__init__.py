"""Texts as vectors: computed once and found again by the hash of the text; which are near each other."""
