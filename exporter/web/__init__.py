"""What the daemon serves over HTTP: values and decisions are pure; only ``server`` and ``unixsocket`` touch sockets."""
