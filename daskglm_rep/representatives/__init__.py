"""Representatives of the blocks of a partition: collected once, improved by rounds, certified by exact scores.

`collection` gathers per part the mean, spread vectors and the covariance with the response; `score_matching` builds the
representatives of Li & Yang's Algorithm 1 and of its response-aided successor at a coefficient vector; `surrogate`
steps on a likelihood of points corrected by the exact score; `rounds` is the loop around them.
"""
