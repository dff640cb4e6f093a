"""The `fx` command: click and rich, behind the extra ``fx-core[cli]``."""
