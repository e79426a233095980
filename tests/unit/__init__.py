"""Rules and parts, each alone."""
