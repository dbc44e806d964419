"""What the machine allows: memory, processes and descriptors, and how processes end.

Every room above comes in. It uses nothing of ours but `snapserv.errors`.
"""
