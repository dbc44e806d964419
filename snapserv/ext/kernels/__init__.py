"""State kernels of the example simulations: typed, ``nogil``, in place on arena memory."""
