"""The JSON document of a sample: its writer and its reader are one codec with one version."""

API_VERSION = 1
"""The version of the document; it rises when a field changes its meaning or goes."""
