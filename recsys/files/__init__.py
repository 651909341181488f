"""Files on disk: written whole or not at all, named by manifests, errors of the system explained."""
