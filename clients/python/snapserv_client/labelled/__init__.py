"""Fields as labelled variables: what is known of them and of their nodes, names of axes, units, and what they mean.

Exports are made of these, and what `Node.read` and `Node.to_dataset` give to xarray.
"""
