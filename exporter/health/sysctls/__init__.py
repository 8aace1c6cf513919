"""The sysctls: what is right for each, by which arithmetic, and how this host's values compare."""
