"""Reading other processes without waking them: their fields, pages, base images, shares and hashes.

The server and what is above it come in, never a cell. It uses `memory` and compiled modules.
"""
