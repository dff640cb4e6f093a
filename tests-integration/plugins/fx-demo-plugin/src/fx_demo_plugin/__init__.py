"""A plugin for fx with one thing of each kind."""
