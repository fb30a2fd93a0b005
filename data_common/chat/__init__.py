"""Instruction rows: their formats, conversations, and these as text and tokens by chat templates."""
