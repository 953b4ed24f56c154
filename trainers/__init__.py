"""Data and a base model to an expert. A module without underscore is a trainer that a recipe can name.

Part of mergefront.
"""
