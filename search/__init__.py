"""The composition: recipe, search, front, export, report and command line. The only package that may import the other four.

Part of mergefront.
"""
