"""What a fit's numbers mean: covariance, effects, hypotheses."""
