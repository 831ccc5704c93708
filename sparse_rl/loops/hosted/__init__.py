"""Loops on environments of the host, which step in threads or processes beside compiled programs."""
