"""Images of frozen processes: taking them from outside, and bringing them back.

The operations and the archiver come in. It uses `store`, `outside` and `memory`.
"""
