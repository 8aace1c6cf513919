"""What a release is made with, beside ``make release``: the bill of materials and the audit of the locks.

No part of the product. Its libraries are those of ``requirements-release.lock``.
"""
