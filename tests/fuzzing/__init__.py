"""Generators of what tired people type and what disks return, all from a seed (``make fuzz``)."""
