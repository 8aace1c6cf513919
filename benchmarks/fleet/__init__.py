"""A fleet: many daemons, each in a network namespace as on a host of its own, and the servers that watch them.

``single`` has one Prometheus for all hosts, ``sharded`` the servers of ``deploy/fleet`` with a failure in their midst,
``simulated`` as many hosts as the machine holds, at the level of their series.
"""
