"""The JSON document of a sample: its writer and its reader are one codec with one version."""
