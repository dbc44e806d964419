"""What an author subclasses, how that is found, checked and called, and the random streams that are nobody's own.

Blame for what the author's code raises is here, too. The adapters and the cell come in. It uses `memory`.
"""
