"""Pure accounting. In: the carry of the previous frame and this frame's events. Out: leaves and the carry of this frame.

A model is named by a manifest's `[accounting]` section and folded by `frames.derive`. No clock, no store, no float.
"""
