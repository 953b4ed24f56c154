"""A model and items to scores. A module without underscore is an evaluator kind that a recipe can name.

Part of mergefront.
"""
