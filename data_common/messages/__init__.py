"""What a user reads: errors, notes, and text of other people that is safe to show."""
