"""The features of windows: gathered once on a device, or read batch by batch."""
