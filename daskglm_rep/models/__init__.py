"""Models: how rows follow from linear predictors, bound to the kernels that add rows up.

What another room wants to know of a model it asks the model, never its class. A model of another kind is a file here
with what `GLM` and `Multinomial` have:

- `n_equations`, `n_responses` (columns of a prediction), `index` (labels of the parameters);
- `moments`, `residuals`, `meat`, `add_scores`, `mean_state`: kernels, which a block is given to;
- `starts_at_zero`, `for_responses`, `null_deviance`, `ridge_metric`, `symmetry`, `is_linear`, `is_steady`,
  `always_valid`: fits;
- `at_limits`, `constraint_values`, `constrained`, `constraint_rows`: separation;
- `loglik`, `dispersion_known`, `has_leverage`, `means`, `statistics`, `predicted`, `linear_scale`, `ratio`: results.
"""
