"""What the daemon serves over HTTP: values and decisions are pure; only ``server`` touches sockets."""
