"""Saves beside the running program: in threads, in several processes, when the machine is taken away."""
