"""The command line: `python -m daskglm_rep demo` and `python -m daskglm_rep fit FORMULA FILES...`."""

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import dask
import dask.dataframe as dd

from daskglm_rep import families

DOCVIS = ("Doctor visits: RAND health insurance experiment", "docvis",
          ["lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp"],
          {"lncoins": "log coinsurance rate", "idp": "individual deductible plan", "lpi": "participation incentive",
           "fmde": "maximum expenditure", "physlm": "physical limitation", "disea": "chronic diseases",
           "hlthg": "health good", "hlthf": "health fair", "hlthp": "health poor"})
AFFAIR = ("Affairs: Fair's survey of married women", "affair",
          ["rate_marriage", "age", "yrs_married", "children", "religious", "educ", "occupation", "occupation_husb"],
          {"rate_marriage": "rating of the marriage", "yrs_married": "years married", "religious": "religiosity",
           "educ": "education (years)", "occupation_husb": "husband's occupation"})


def main(arguments=None):
    """Run a command.

    Parameters
    ----------
    arguments : list of str, optional
        Default: the process's.

    Returns
    -------
    int
        Exit status: 0, or 1 after an error, which is one line on standard error.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        try:
            with dask.config.set(scheduler="threads"):
                options.run(options)
        except (ValueError, FileNotFoundError, ImportError, FileExistsError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _tell(message, category, *place, **more):
    """Warnings of this package as one line; others are not for the user of a command."""
    if category.__module__.startswith(("daskglm_rep", "sklearn")):
        print(f"warning: {message}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser("daskglm_rep", description="Generalized linear models on chunked data.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo_parser = commands.add_parser("demo", help="fit two real data sets from Parquet files, lazily")
    demo_parser.add_argument("--out", default="demo-output", metavar="DIR", help="folder for the data and the plot")
    demo_parser.set_defaults(run=demo)
    p = commands.add_parser("fit", help="fit a formula to Parquet files")
    p.add_argument("formula", help="for example 'y ~ x + C(g)'")
    p.add_argument("data", nargs="+", help="Parquet files or folders")
    p.add_argument("--family", default="gaussian", choices=(*families.FAMILIES, "multinomial"))
    p.add_argument("--link", help="default: the family's")
    p.add_argument("--baseline", help="baseline class of a multinomial model")
    for name in ("weights", "offset", "exposure"):
        p.add_argument(f"--{name}", metavar="COLUMN")
    p.add_argument("--cov", default="nonrobust", metavar="TYPE",
                   help="nonrobust, HC0, HC1, HC2, HC3, cluster:COLUMN or cluster:COLUMN,COLUMN")
    p.add_argument("--na", default="drop", choices=("drop", "raise"), help="rows with missing values")
    p.add_argument("--level", type=float, default=0.95, help="of the confidence intervals")
    p.add_argument("--margins", nargs="?", const="", metavar="VARIABLES",
                   help="average marginal effects, of all variables or of those named, separated by commas")
    p.add_argument("--out", metavar="FILE", help="write the results as JSON")
    p.set_defaults(run=fit)
    return parser


# ---------------------------------------------------------------- fit


def fit(options):
    """Fit a formula to Parquet files, print the tables, write JSON where asked."""
    from daskglm_rep import formula
    from daskglm_rep.inference.intervals import confidence_level
    confidence_level(options.level)
    data = dd.read_parquet(_paths(options.data))
    cov_type, _, clusters = options.cov.partition(":")
    if (cov_type == "cluster") != bool(clusters):
        raise ValueError(f"--cov {options.cov} is not known: write cluster:COLUMN for clustered errors, else one of "
                         "nonrobust, HC0, HC1, HC2, HC3.")
    how = dict(cov_type=cov_type, na=options.na, weights=options.weights, offset=options.offset)
    if clusters:
        how["clusters"] = clusters.split(",") if "," in clusters else clusters
    if options.family == "multinomial":
        if options.link or options.exposure:
            raise ValueError("--link and --exposure do not belong to a multinomial model: leave them out.")
        results = formula.mnlogit(options.formula, data, baseline=_label(options.baseline), **how)
    else:
        if options.baseline:
            raise ValueError("--baseline belongs to --family multinomial: leave it out, or choose that family.")
        results = formula.glm(options.formula, data, family=options.family, link=options.link,
                              exposure=options.exposure, **how)
    print(results.summary(options.level))
    margins = None
    if options.margins is not None:
        variables = [v.strip() for v in options.margins.split(",")] if options.margins else None
        margins = results.margins(data, variables=variables, level=options.level).frame
        print("\nAverage marginal effects\n" + margins.to_string(index=False, float_format=_number))
    if options.out:
        Path(options.out).write_text(json.dumps(_plain(record(results, options, margins)), indent=1) + "\n")
        print(f"\nwritten: {options.out}")


def _paths(given):
    """Parquet files of some files and folders, in order.

    Raises
    ------
    FileNotFoundError
    """
    paths = []
    for name in given:
        path = Path(name)
        found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
        if not found or not found[0].exists():
            raise FileNotFoundError(f"no Parquet file at {name}: give files (data/*.parquet) or a folder of them.")
        paths += [str(p) for p in found]
    return paths


def _label(text):
    """A class label as typed: a whole number where it reads as one."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return text


def record(results, options, margins=None):
    """What the JSON file holds, as dicts and lists."""
    names = ("nobs", "df_model", "df_resid", "llf", "llnull", "aic", "bic", "deviance", "null_deviance", "pearson_chi2",
             "scale", *(("alpha", "alpha_standard_error") if hasattr(results, "alpha") else ()))
    fitted = results.fitted
    found = {"formula": options.formula, "model": str(results.model), "response": results.response,
             "cov_type": results.cov_type, "level": options.level, "converged": results.converged,
             "n_passes": fitted.n_passes, "distance_to_optimum_se": fitted.fit.distance,
             "n_missing": getattr(results, "n_missing", 0), "fit": {name: getattr(results, name) for name in names},
             "coefficients": results.summary_frame(options.level).reset_index().to_dict("records"),
             "covariance": results.cov_params().to_numpy().tolist()}
    if margins is not None:
        found["margins"] = margins.to_dict("records")
    return found


def _plain(value):
    """JSON's types: numpy scalars unwrapped, NaN and infinities null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _number(value):
    return f"{value:.4g}" if value and abs(value) < 1e-3 else f"{value:.4f}"


# ---------------------------------------------------------------- demo


def demo(options):
    """Fit doctor visits (Poisson) and affairs (logit) from folders of Parquet files, chunk by chunk, and draw both."""
    from daskglm_rep import GLMClassifier, PoissonRegressor, datasets
    out = Path(options.out)
    print(f"Two real data sets, written once as Parquet files below {out}/, read lazily, fitted file by file on "
          "threads.")
    folders = [datasets.rand_hie(out / "rand_hie"), datasets.affairs(out / "affairs")]
    fits = [_demo_fit(*case) for case in zip((DOCVIS, AFFAIR), folders, (PoissonRegressor(), GLMClassifier()))]
    visits = fits[0].results_
    print("\nDoctor visits vary more than Poisson counts do: Pearson chi2 / df = "
          f"{visits.pearson_chi2 / visits.df_resid:.1f}.\nStandard errors that do not assume the Poisson variance: "
          "PoissonRegressor(cov_type=\"HC1\").")
    path = out / "coefficients.png"
    _demo_plot(fits, path)
    print(f"\nCoefficient plot: {path}")
    print("Your own files:   python -m daskglm_rep fit 'docvis ~ lncoins * idp + disea + C(hlthp)' "
          f"{folders[0]} --family poisson --margins")


def _demo_fit(case, folder, estimator):
    title, response, columns, _ = case
    data = dd.read_parquet(folder)
    start = time.perf_counter()
    estimator.fit(data[columns], data[response])
    seconds = time.perf_counter() - start
    print(f"\n{title} ({data.npartitions} files)\n{estimator.results_.summary()}\n"
          f"{estimator.n_passes_:g} sweeps over the files; at most {max(estimator.distance_to_optimum_, 1e-12):.0e} "
          f"standard errors from the optimum; {seconds:.1f} s, most of them compilation.")
    return estimator


def _demo_plot(fits, path):
    from matplotlib.figure import Figure

    from daskglm_rep.plotting import plot_coefficients
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for ax, fitted, case in zip(figure.subplots(1, 2), fits, (DOCVIS, AFFAIR)):
        plot_coefficients(fitted.results_, per="sd", ax=ax)
        ax.set_yticks(ax.get_yticks(), [case[3].get(name, name) for name in case[2]])
        ax.set_title(case[0], loc="left", fontsize="medium", fontweight="bold")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
