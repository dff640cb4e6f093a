"""What fx-compress brings through the plugin door."""

fx_api_version = "1.0"
