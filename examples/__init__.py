"""Example simulations: ``counter``, ``wildfire`` and ``gray_scott``."""
