"""Maps from scores to probabilities, one a group, and which of them serves whom."""
