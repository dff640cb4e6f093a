"""Ways to store state dictionaries; each is found by name through the plugin registry."""
