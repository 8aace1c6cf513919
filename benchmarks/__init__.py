"""What the exporter costs beside its peers, with populations of up to a million real sockets: ``make bench``."""
