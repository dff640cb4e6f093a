# ruff: noqa: E402  # Keras reads the environment when it is imported
"""Keras 3 on the JAX backend with NNX: a network with batch norm and dropout is trained by fit."""

import os
import sys

os.environ["KERAS_BACKEND"], os.environ["KERAS_NNX_ENABLED"] = "jax", "true"

import keras
import numpy as np
from flax import nnx
from keras import layers

assert keras.config.is_nnx_enabled()
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        layers.Input((6,)),
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.2),
        layers.Dense(3),
    ]
)
assert isinstance(model, nnx.Module)
x = np.linspace(-1, 1, 16 * 6, dtype="float32").reshape(16, 6)
y = np.arange(16) % 3
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
history = model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
results = {f"history/{name}": np.asarray(values) for name, values in history.history.items()}
results["predicted"] = model.predict(x, verbose=0)
results |= {f"weights/{index}": np.asarray(weight) for index, weight in enumerate(model.get_weights())}
np.savez(sys.argv[1], **results)
