"""What a site lets out: its own rules, safe where nothing is said, read from a TOML file of the site.

The words are near DataSHIELD's disclosure settings: `least_rows` is nfilter.tab and nfilter.subset,
`rows_per_coefficient` the inverse of nfilter.glm, rare levels fall under nfilter.levels. Dominance is the (1, k) rule
of official statistics.
"""

import dataclasses
import math
import tomllib


class Refused(ValueError):
    """A question that the rules do not let the site answer; the text says which rule and holds no data."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules of a site.

    Parameters
    ----------
    least_rows : int, default 10
        Rows and effective rows, (sum w)^2 / sum w^2, that every sum is over: all rows, each level, the rows that have
        not a column's most frequent value, those of each pair of 0/1 columns and levels (both, one, neither: no rows
        or enough), those that carry an information or a score, those by which two scores
        differ, and the sets that unions, sections and differences of all answered questions' rows make.
    rows_per_coefficient : float, default 3
        A model with k coefficients needs k times as many rows.
    most_share : float, default 0.5
        No row may make up more than this share of a column's or a combination of columns' spread (leverage), of
        a number of a score or of an average of effects (absolute values).
    most_questions : int, default 200
        In the site's life.
    numbers_per_value : float, default 0.5
        Numbers sent in all, as a share of the values held (rows times columns).
    rare_levels : {"merge", "refuse"}
        What happens to levels of a factor below `least_rows`: they become the level "(other)", or the question is
        refused.
    epsilon, delta, clip : float
        With epsilon finite only surveys without a fit and noisy scores are answered: each row's score, in standardised
        columns, is clipped to length `clip` and Gaussian noise is added, so that all scores ever sent have (epsilon,
        delta) differential privacy of adding or leaving out a row, by zero-concentrated composition over
        `noisy_rounds` rounds. Not covered by it, and sent as they are: the survey's counts, means and squares, and the
        informations, which hold no response; nor whether a question is refused.
    noisy_rounds : int, default 5

    Examples
    --------
    >>> from daskglm_rep.localised import Rules
    >>> rules = Rules(least_rows=20, epsilon=2.0)
    >>> round(rules.spent(3), 2)
    1.54
    """

    least_rows: int = 10
    rows_per_coefficient: float = 3.0
    most_share: float = 0.5
    most_questions: int = 200
    numbers_per_value: float = 0.5
    rare_levels: str = "merge"
    epsilon: float = math.inf
    delta: float = 1e-6
    clip: float = 3.0
    noisy_rounds: int = 5

    def __post_init__(self):
        checks = {"least_rows": self.least_rows >= 1, "rows_per_coefficient": self.rows_per_coefficient >= 0,
                  "most_share": 0 < self.most_share <= 1, "most_questions": self.most_questions >= 1,
                  "numbers_per_value": self.numbers_per_value > 0,
                  "rare_levels": self.rare_levels in ("merge", "refuse"),
                  "epsilon": self.epsilon > 0, "delta": 0 < self.delta < 1, "clip": self.clip > 0,
                  "noisy_rounds": self.noisy_rounds >= 1}
        for name, good in checks.items():
            if not good:
                raise ValueError(f"rules: {name}={getattr(self, name)!r} is outside what it may be; see "
                                 "daskglm_rep.localised.Rules.")

    @classmethod
    def read(cls, path):
        """From a TOML file of `name = value` lines.

        Raises
        ------
        ValueError
            Unknown names or values.
        """
        with open(path, "rb") as file:
            try:
                values = tomllib.load(file)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"{path} is no TOML file: {error}.") from None
        known = {f.name: type(f.default) for f in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"{path}: there is no rule {name!r}; the rules are {', '.join(known)}.")
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and known[name] in (int, float)
            if not (number or isinstance(value, known[name])):
                raise ValueError(f"{path}: {name} = {value!r} is no {known[name].__name__}.")
        return cls(**values)

    @property
    def is_noisy(self):
        return math.isfinite(self.epsilon)

    @property
    def rho(self):
        """The budget in zero-concentrated privacy: epsilon = rho + 2 sqrt(rho ln(1/delta)) (Bun and Steinke 2016)."""
        root = math.sqrt(math.log(1.0 / self.delta))
        return (math.sqrt(root * root + self.epsilon) - root) ** 2

    @property
    def noise(self):
        """Standard deviation of what is added to each number of a score: rho / rounds = clip^2 / (2 sd^2)."""
        return self.clip * math.sqrt(self.noisy_rounds / (2.0 * self.rho))

    def spent(self, rounds):
        """Epsilon at `delta` of so many noisy rounds."""
        rho = self.rho * rounds / self.noisy_rounds
        return rho + 2.0 * math.sqrt(rho * math.log(1.0 / self.delta))
