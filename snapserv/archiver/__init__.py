"""The process that writes to a store, and the one that reads from it, so that the server never waits for either.

The operations come in, by `asking`. It uses `images` and `store`.
"""
