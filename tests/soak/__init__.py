"""What the daemon bears: a thousand connections of slow clients, and a day of samples, of scrapes and of reloads.

``make soak`` runs both at their full size and prints what they came to; the end-to-end tests run them smaller.
``python -m tests.soak.healthy`` is an hour of a busy host without trouble, about which nothing may raise an alarm.
"""
