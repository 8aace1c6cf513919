"""Builds the plugin as one file, ``dist/check_tcp_states.pyz``: no part of the product, as ``make plugin``."""
