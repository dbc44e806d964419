"""Going on after the server was killed: finding what it has left, and taking it in.

The server comes in. It uses `nodes`.
"""
