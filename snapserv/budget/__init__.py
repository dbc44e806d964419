"""What memory nodes may take, and what each is charged with.

Recovery, operations and the server come in. It uses `nodes`, `outside` and `machine`.
"""
