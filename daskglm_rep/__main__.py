"""The command line: `python -m daskglm_rep demo`, `... fit FORMULA FILES...` and `... compare FILE.json...`."""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import dask
import dask.dataframe as dd

from daskglm_rep import families, records
from daskglm_rep.formula.assembly import parse
from daskglm_rep.inference.covariance import CLUSTERED, COV_TYPES
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.localised import command
from daskglm_rep.readers import open_table
from daskglm_rep.sources import columns_of
from daskglm_rep.versions import __version__

PLAIN = tuple(name for name in COV_TYPES if name not in CLUSTERED)
DOCVIS = ("Doctor visits: RAND health insurance experiment", "docvis",
          ["lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp"],
          {"lncoins": "log coinsurance rate", "idp": "individual deductible plan", "lpi": "participation incentive",
           "fmde": "maximum expenditure", "physlm": "physical limitation", "disea": "chronic diseases",
           "hlthg": "health good", "hlthf": "health fair", "hlthp": "health poor"})
AFFAIR = ("Affairs: Fair's survey of married women", "affair",
          ["rate_marriage", "age", "yrs_married", "children", "religious", "educ", "occupation", "occupation_husb"],
          {"rate_marriage": "rating of the marriage", "yrs_married": "years married", "religious": "religiosity",
           "educ": "education (years)", "occupation_husb": "husband's occupation"})


EPILOG = """Exit status: 0 done; 1 refused, with one line on standard error; 2 a command or option that does not exist;
3 fitted, but not converged (tables and files are written)."""


def main(arguments=None):
    """Run a command.

    Parameters
    ----------
    arguments : list of str, optional
        Default: the process's.

    Returns
    -------
    int
        Exit status: 0; 1 after an error, which is one line on standard error; 3 where a fit did not converge.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        try:
            with dask.config.set(scheduler="threads"):
                return options.run(options) or 0
        except (ValueError, OSError, ImportError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def _tell(message, category, *place, **more):
    """Warnings of this package as one line; others are not for the user of a command."""
    if category.__module__.startswith(("daskglm_rep", "sklearn")):
        print(f"warning: {message}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser("daskglm_rep", description="Generalized linear models on chunked data.",
                                     epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"daskglm_rep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo_parser = commands.add_parser("demo", help="fit two real data sets from Parquet files, lazily")
    demo_parser.add_argument("--out", default="demo-output", metavar="DIR", help="folder for the data and the plot")
    demo_parser.set_defaults(run=demo)
    _fit_parser(commands.add_parser("fit", help="fit a formula to Parquet or CSV files", epilog=EPILOG,
                                    formatter_class=argparse.RawDescriptionHelpFormatter))
    p = commands.add_parser("compare", help="put fits that --out has written side by side")
    p.add_argument("records", nargs="+", metavar="FILE", help="JSON files of fits")
    p.add_argument("--below", default="std err", choices=tuple(records.BELOW), help="what stands in brackets")
    p.add_argument("--format", default="text", choices=("text", "markdown", "latex", "html", "csv"))
    p.set_defaults(run=compare)
    command.add_to(commands)
    return parser


def _fit_parser(p):
    p.add_argument("formula", help="for example 'y ~ x + C(g)'")
    p.add_argument("data", nargs="+", help="Parquet or CSV files, folders or patterns: one data set")
    p.add_argument("--family", default="gaussian", choices=(*families.FAMILIES, "multinomial"))
    p.add_argument("--link", help="default: the family's")
    p.add_argument("--baseline", help="baseline class of a multinomial model")
    for name in ("weights", "offset", "exposure"):
        p.add_argument(f"--{name}", metavar="COLUMN")
    p.add_argument("--weights-kind", default="prior", choices=("prior", "frequency"),
                   help="prior weights scale a row's precision, frequency weights count copies of a row")
    p.add_argument("--cov", default="nonrobust", metavar="TYPE",
                   help=f"covariance: {', '.join(PLAIN)}; {' or '.join(f'{name}:COLUMN' for name in CLUSTERED)}, or "
                        "cluster:COLUMN,COLUMN for two ways")
    p.add_argument("--alpha", type=float, default=0.0, help="penalty strength; 0 is maximum likelihood")
    p.add_argument("--l1-ratio", type=float, default=0.0, help="share of the absolute-value penalty")
    p.add_argument("--tol", type=float, default=1e-6, help="distance to the optimum, in standard errors")
    p.add_argument("--max-iter", type=int, default=100, help="sweeps at most")
    p.add_argument("--na", default="drop", choices=("drop", "raise"), help="rows with missing values")
    p.add_argument("--rank", default="warn", choices=("warn", "error"), help="aliased columns: NaN, or refused")
    p.add_argument("--allow", default="code", choices=("code", "terms"),
                   help="formulas are Python and run what they say; 'terms' refuses all but columns, operators and "
                        "known functions")
    p.add_argument("--level", type=float, default=0.95, help="of the confidence intervals")
    p.add_argument("--margins", nargs="?", const="", metavar="VARIABLES",
                   help="average marginal effects, of all variables or of those named, separated by commas")
    p.add_argument("--out", metavar="FILE", help="write the results as JSON")
    p.set_defaults(run=fit)


# ---------------------------------------------------------------- fit, compare


def fit(options):
    """Fit a formula to files, print the tables, write JSON where asked. What can be refused is, before the fit."""
    from daskglm_rep import formula
    confidence_level(options.level)
    _check_out(options.out)
    data = open_table(options.data)
    variables = _variables(options.margins, options.formula, data, options.allow)
    how = {name: getattr(options, name) for name in ("weights", "offset", "na", "alpha", "tol", "max_iter", "rank",
                                                     "weights_kind", "allow")} | _covariance(options.cov)
    if options.family == "multinomial":
        if options.link or options.exposure or options.l1_ratio:
            raise ValueError("--link, --exposure and --l1-ratio do not belong to a multinomial model: leave them out.")
        results = formula.mnlogit(options.formula, data, baseline=_label(options.baseline), **how)
    else:
        if options.baseline:
            raise ValueError("--baseline belongs to --family multinomial: leave it out, or choose that family.")
        results = formula.glm(options.formula, data, family=options.family, link=options.link,
                              exposure=options.exposure, l1_ratio=options.l1_ratio, **how)
    print(results.summary(options.level))
    margins = None
    if options.margins is not None:
        margins = results.margins(data, variables=variables, level=options.level).frame
        print("\nAverage marginal effects\n" + margins.to_string(index=False, float_format=_number))
    if options.out:
        records.write(options.out, records.record(results, options.level, margins))
        print(f"\nwritten: {options.out}")
    return 0 if results.converged else 3


def _check_out(out):
    """Refuse a file that cannot be written, before hours of work go into it."""
    if out is None:
        return
    folder = Path(out).absolute().parent
    if Path(out).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out {out} cannot be written: name a file in a folder that exists and may be written to.")


def _variables(margins, formula, data, allow):
    """Variables whose effects are asked for; None for all.

    Raises
    ------
    ValueError
        One that the formula has not.
    """
    if not margins:
        return None
    variables = [v.strip() for v in margins.split(",")]
    known = parse(formula, columns_of(data), {}, allow).rhs_columns
    for name in variables:
        if name not in known:
            raise ValueError(f"--margins names {name!r}, which is no variable on the right of {formula!r}: choose of "
                             f"{', '.join(map(repr, known))}.")
    return variables


def _covariance(text):
    """Keywords of a fit for TYPE or TYPE:COLUMN,COLUMN."""
    cov_type, _, columns = text.partition(":")
    if cov_type not in COV_TYPES or (cov_type in CLUSTERED) != bool(columns):
        raise ValueError(f"--cov {text} is not known: write cluster:COLUMN for clustered errors (CR2:COLUMN, "
                         f"CR3:COLUMN where clusters are few), else one of {', '.join(PLAIN)}.")
    return {"cov_type": cov_type} | ({"clusters": columns.split(",")} if columns else {})


def _label(text):
    """A class label as typed: a whole number where it reads as one."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return text


def compare(options):
    """Print fits of JSON files side by side."""
    paths = [Path(name) for name in options.records]
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError("compare got one file twice: name each once.")
    table = records.SideBySide({name: records.read(path) for name, path in zip(names, paths)}, options.below)
    print(getattr(table, f"as_{options.format}")())


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
          f"standard errors from the optimum; {seconds:.1f} s, any compilation included.")
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
