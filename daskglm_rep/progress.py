"""What a fit says while it runs, if it is asked to: one bar, from the first look at the rows to the optimum."""

import contextlib
import math
import numbers
import threading
import warnings

from numba.core import event

FORMAT = "{desc} |{bar}| {elapsed}"
COMPILING = "compiling for this machine, once per installation"

_thread = threading.local()          # fits in threads of their own have bars of their own


class _Bar(event.Listener):
    """A bar that fills as the distance to the optimum falls towards the tolerance, on a logarithmic scale."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                  # a notebook without ipywidgets: the bar is text there
            from tqdm.auto import tqdm
        self.bar = tqdm(total=100, desc="looking at the rows", bar_format=FORMAT)
        self.first, self.said = math.inf, set()

    def on_start(self, event):
        if COMPILING not in self.said:
            self.said.add(COMPILING)
            self.bar.set_description_str(COMPILING)

    def on_end(self, event):
        """Nothing: the next sweep says what comes then."""

    def say(self, text):
        if text not in self.said:
            self.said.add(text)
            self.bar.write(text)

    def step(self, text, distance, tol):
        self.bar.set_description_str(text, refresh=False)
        if math.isfinite(distance) and distance > 0.0:
            self.first = distance if math.isinf(self.first) else self.first
            whole = math.log(max(self.first / tol, 1.0 + 1e-9))
            self.bar.n = round(100 * min(max(math.log(self.first / distance) / whole, 0.0), 1.0))
        if distance <= tol:
            self.bar.n = 100
        self.bar.refresh()


@contextlib.contextmanager
def shown(verbose):
    """Show a bar while the block runs, where `verbose` is above 0 and none is shown around it.

    Parameters
    ----------
    verbose : int
    """
    if not isinstance(verbose, numbers.Integral) or verbose < 1 or getattr(_thread, "bar", None) is not None:
        yield
        return
    _thread.bar = bar = _Bar()
    try:
        with event.install_listener("numba:compile", bar):
            yield
    finally:
        _thread.bar = None
        bar.bar.close()


def say(text):
    """Write a line above the bar, once a fit; nothing without a bar."""
    bar = getattr(_thread, "bar", None)
    if bar is not None:
        bar.say(text)


def step(what, deviance, distance, tol, more=""):
    """Tell how far a fit has come; nothing without a bar.

    Parameters
    ----------
    what : str
        Such as "sweep 3".
    deviance : float
    distance : float
        To the optimum, in standard errors.
    tol : float
        The distance at which the fit ends.
    more : str
    """
    show(f"{what}: deviance {deviance:.10g}, {distance:.1e} standard errors off{more}", distance, tol)


def show(text, distance, tol):
    """`step` in other words."""
    bar = getattr(_thread, "bar", None)
    if bar is not None:
        bar.step(text, distance, tol)
