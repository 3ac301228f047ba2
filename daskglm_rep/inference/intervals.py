"""The coverage of confidence intervals, asked for as `level` or as `alpha`."""

import numbers


def confidence_level(level=0.95, alpha=None):
    """The share of an interval: `level`, or 1 - `alpha` where that is given.

    Raises
    ------
    ValueError
        A level outside [0.5, 1): 0.05 is nearly always an alpha, 95 a percentage.
    """
    name, value = ("level", level) if alpha is None else ("alpha", alpha)
    if not isinstance(value, numbers.Real) or not 0.0 < value < 1.0:
        raise ValueError(f"level must lie in [0.5, 1) and alpha in (0, 0.5], got {name}={value!r}; level=0.95 or "
                         "alpha=0.05 gives 95 % intervals.")
    level = value if alpha is None else 1.0 - value
    if level < 0.5:
        raise ValueError(f"{name}={value:g} asks for {100 * level:g} % intervals; for {100 * (1 - level):g} % "
                         f"intervals write alpha={level:g} or level={1 - level:g}.")
    return float(level)
