"""Pictures of results, with matplotlib (`pip install "daskglm_rep[plot]"`)."""

from daskglm_rep.plotting.coefficients import plot_coefficients
from daskglm_rep.plotting.effects import plot_margins
from daskglm_rep.plotting.fit_checks import plot_calibration, plot_leverage, plot_quantiles, plot_residuals
from daskglm_rep.plotting.paths import plot_curve, plot_path
from daskglm_rep.plotting.representatives import plot_bytes, plot_representatives, plot_rounds

__all__ = ["plot_bytes", "plot_calibration", "plot_coefficients", "plot_curve", "plot_leverage", "plot_margins",
           "plot_path", "plot_quantiles", "plot_representatives", "plot_residuals", "plot_rounds"]
