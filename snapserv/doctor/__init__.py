"""What this kernel and this user can do, and what of a simulation will not branch well.

The command line comes in. It uses everything below but `mechanisms`.
"""
