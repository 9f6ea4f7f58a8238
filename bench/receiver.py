"""``edgeagent receive``, noting when each record was committed.

The same program with the same options; only the time after each commit is noted beside it. The
bodies are kept and looked into at the end, after the measured window.
"""
