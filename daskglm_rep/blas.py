"""One thread of BLAS a task: a scheduler's threads are as many as the machine has."""

import contextlib
import threading
from functools import cache

from threadpoolctl import ThreadpoolController

FEW = 400          # coefficients up to which one thread of BLAS beats several: a factor of 51 in 20 us, not 3.5 ms


class _OneBlasThread:
    """While any task runs BLAS starts no threads of its own under it; the last task to end gives them back."""

    def __init__(self):
        self.lock, self.n_inside, self.limit = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            self.n_inside += 1
            if self.n_inside == 1:
                self.limit = _controller().limit(limits=1, user_api="blas")

    def __exit__(self, *exception):
        with self.lock:
            self.n_inside -= 1
            if not self.n_inside:
                self.limit.restore_original_limits()


ONE_BLAS_THREAD = _OneBlasThread()


def for_coefficients(n_coef):
    """Where to work on matrices of so many rows: few are no work for several threads."""
    return ONE_BLAS_THREAD if n_coef <= FEW else contextlib.nullcontext()


@cache
def _controller():
    """Made once: looking for the BLAS libraries takes 7 ms, a quarter of a sweep over two million rows."""
    return ThreadpoolController()
