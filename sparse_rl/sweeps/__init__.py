"""From a grid to finished runs: grid → packs → launcher."""
