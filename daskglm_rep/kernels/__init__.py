"""What happens inside one block of rows: numba and numpy only, no dask."""
