"""Simulations that the tests serve: small, deterministic, and able to fail in every way that matters."""
