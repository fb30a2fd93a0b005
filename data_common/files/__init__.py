"""Files that appear whole or not at all, what they were made from, and steps that a killed call goes on with."""
