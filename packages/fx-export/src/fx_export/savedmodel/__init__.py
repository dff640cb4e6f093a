"""TensorFlow SavedModels: StableHLO that TensorFlow reads, with the weights as variables."""
