"""The front door: the event loop, what each verb does, who may come in, and what clients are remembered by.

The command line and the doctor come in. It uses everything below but `mechanisms`.
"""
