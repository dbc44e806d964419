"""Files branch too: copy-on-write views of folders, their layers on the disk, and who stands on which.

The cell, the server's nodes and the doctor come in. It uses `machine` and the compiled `mounts`.
"""
