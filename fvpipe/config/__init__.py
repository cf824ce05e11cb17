"""YAML files as frozen, typed settings, and the identifier key."""
