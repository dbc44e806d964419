"""Other people's simulators as simulations, each named by a scheme: ``gym:CartPole-v1``.

The cell comes in. It uses `simulation`, and each adapter what it is made for, which is imported there alone.
"""
