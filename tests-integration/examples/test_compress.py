"""The digits network, made smaller: every variant is as small as it says and recognizes about as much."""

import sys

import fx_compress
import jax
import numpy as np
import optax


def test_smaller_networks_recognize_digits(example, monkeypatch, tmp_path, capsys):
    program = example("digits", "train")
    monkeypatch.setattr(
        sys, "argv", ["train.py", "--steps", "60", "--directory", str(tmp_path), "--backend", "msgpack"]
    )
    program.main()
    smaller = example("digits", "compress")
    monkeypatch.setattr(sys, "argv", ["compress.py", "--steps", "20", "--directory", str(tmp_path)])
    capsys.readouterr()
    smaller.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("zeros") and "%" in line]
    found = {line[:22].strip(): line[22:].split() for line in lines}
    accuracies = {name: float(cells[0].rstrip("%")) for name, cells in found.items()}
    assert len(found) == 8
    assert accuracies["float32"] > 80
    for name in ("int8 weights", "int8, dynamic inputs", "int8, static inputs"):
        assert abs(accuracies[name] - accuracies["float32"]) < 2
        assert int(found[name][1].replace(",", "")) <= 0.27 * int(found["float32"][1].replace(",", ""))
    for name in ("int4 in groups", "int4, trained for it"):
        assert accuracies[name] > accuracies["float32"] - 6
        assert int(found[name][1].replace(",", "")) <= 0.16 * int(found["float32"][1].replace(",", ""))
    zeros = [float(found[name][-2].rstrip("%")) for name in ("half of the weights", "two of four weights")]
    # Of five kernels the first keeps its weights.
    np.testing.assert_allclose(zeros, 5 / 6 * 50, atol=2)


def test_smaller_gpts_predict_characters(example, monkeypatch):
    program = example("gpt", "compress")
    network = example("gpt", "network").GPT(layers=1, features=64, heads=2, length=16)
    monkeypatch.setattr(program, "NETWORK", network)
    text = program.windows(program.encode("to be or not to be, that is the question. " * 40), 16)
    params = program.finetune(jax.jit(network.init)(jax.random.key(0), text["x"])["params"], text, 20, optax.adam(1e-2))
    losses, ratios = {}, {}
    for name, make in program.variants(params, text, 4).items():
        smaller = make()
        losses[name] = float(program.loss_fn(smaller, **text))
        ratios[name] = fx_compress.compare(params, smaller).ratio
    assert losses["float32"] < 2.5
    for name in ("int8 weights", "int8, dynamic inputs"):
        assert abs(losses[name] - losses["float32"]) < 0.05
        assert ratios[name] < 0.3
    for name in ("int4 in groups", "int4, GPTQ", "int4, trained for it", "nf4 in groups"):
        assert losses[name] < losses["float32"] + 0.3
        assert ratios[name] < 0.25
    assert losses["half of the weights"] < losses["float32"] + 0.3
