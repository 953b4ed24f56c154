"""Where and when things run: Ray sessions, actor pools, Tune trials. Knows nothing of merges.

Part of mergefront.
"""
