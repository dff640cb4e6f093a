"""Interfaces for the packages of fx, and for plugins, to what other libraries do not promise to keep."""
