"""The composition: recipe, search, front, export, report, command line. It alone imports the other four packages.

Part of mergefront.
"""
