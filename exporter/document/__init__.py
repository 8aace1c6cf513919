"""What a daemon and those who ask it agree on: the JSON document, whose writer and reader are one codec, and READY."""

API_VERSION = 1
"""The version of the document; it rises when a field changes its meaning or goes."""

READY = "TCP exporter is ready."
"""What ``/-/ready`` answers with 200; another server may say 200 to anything."""
