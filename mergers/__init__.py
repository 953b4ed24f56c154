"""Tensors to tensors, checkpoints to checkpoints. A module without underscore is a merge method.

Part of mergefront.
"""
