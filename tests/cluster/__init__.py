"""Clusters, on several nodes of Ray's on this machine."""

import os

os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
