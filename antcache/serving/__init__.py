"""Pages of this machine: where they are served, who may ask for them, and what they may load."""
