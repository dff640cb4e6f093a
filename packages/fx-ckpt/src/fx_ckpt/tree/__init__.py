"""Trees of state: their structure, their leaves, and how a stored tree is fitted to a target."""
