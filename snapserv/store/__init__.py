"""Writing to a store of durable snapshots: packs, images, heads; collecting, verifying and copying them.

`server`, `operations` and what saves or brings back processes come in, never a cell. It uses the client's `store`.
"""
