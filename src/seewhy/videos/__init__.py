"""Videos: told by their first bytes, checked, and looked at frame by frame in a process that may die of it.

A decoder is millions of lines of C that read what strangers wrote. So it runs in a child process (`child`) that has so
much memory and time and no more; who asks (`decoder`) gets pictures or the reason why not. This package imports nothing
at its top, so that the child starts quickly.
"""

READY = b"ready\n"
"""What the child says once it can work."""
