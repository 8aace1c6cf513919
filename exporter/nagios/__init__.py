"""The plugin: from a snapshot to a Monitoring Plugins answer."""
