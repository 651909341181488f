"""log-sum-exp of nested scores by kernels: numba's on a CPU, Triton's on a GPU."""
