"""The terminal: a sample, its health and the owners of sockets as text for a person."""
