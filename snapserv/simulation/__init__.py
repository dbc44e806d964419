"""What an author subclasses, the random streams that are nobody's own, and blame for what the author's code raises.

The adapters and the cell come in. It uses `memory`.
"""
