"""The command ``fx``, which the extra ``fx-core[cli]`` brings."""
