"""Streams of features on a hub, as dataset repositories: pushed unit by unit, and pulled again."""
