"""Layers of ranking networks: parts of layers that work alone, and the form of inputs."""
