"""Test suites that ship with the interfaces of fx."""
