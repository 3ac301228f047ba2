"""One algorithm per file; each loop reads as the numbered algorithm."""
