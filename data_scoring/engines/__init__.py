"""What several scorers share; an engine knows no method."""
