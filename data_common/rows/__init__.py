"""Rows of JSON lines: read, looked up by column, copied byte for byte."""
