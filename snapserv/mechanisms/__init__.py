"""Every way to snapshot a region of memory on Linux, behind one interface, so that they can be compared.

The lab of the command line comes in. It uses the link of a cell, and what is below; it knows nothing of the server.
"""
