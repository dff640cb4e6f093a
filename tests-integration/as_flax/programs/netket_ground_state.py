"""netket: a few steps towards the ground state of an Ising chain, with a network of Linen and one of NNX."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import netket as nk
import numpy as np


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, param_dtype=float)(x)
        return jnp.sum(nk.nn.activation.log_cosh(x), axis=-1)


results = {}
hilbert = nk.hilbert.Spin(0.5, 6)
hamiltonian = nk.operator.IsingJax(hilbert, nk.graph.Chain(6), h=1.0)
for name, model in {"network": Network(), "rbm": nk.models.RBM(alpha=1, param_dtype=float)}.items():
    sampler = nk.sampler.MetropolisLocal(hilbert, n_chains=8)
    state = nk.vqs.MCState(sampler, model, n_samples=64, seed=1, sampler_seed=2)
    driver = nk.VMC(hamiltonian, nk.optimizer.Sgd(0.05), variational_state=state)
    for index in range(3):
        driver.run(1, show_progress=False)
        results[f"{name}/energy/{index}"] = np.asarray(state.expect(hamiltonian).mean)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.parameters):
        results[f"{name}/{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
