"""Zero-order workers, and the master that applies what arrives: on a simulated or on the real clock."""
