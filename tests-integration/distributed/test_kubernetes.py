"""The manifest in the documentation, and the program as the pods that it makes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from fx_train.distributed.start import _found

MANIFEST = Path(__file__).resolve().parents[2] / "docs" / "kubernetes.yaml"


@pytest.fixture
def manifest():
    service, job = yaml.safe_load_all(MANIFEST.read_text())
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    return service, job


def variables(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_the_manifest_gives_every_pod_its_place(manifest):
    service, job = manifest
    spec, name = job["spec"], job["metadata"]["name"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1
    # Pod 0 is JOB-0.SERVICE where the service is headless, finds the job's pods, and is their subdomain.
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    for index in range(spec["completions"]):
        place = _found(None, None, None, {**variables(job), "JOB_COMPLETION_INDEX": str(index)})
        assert place["process_id"] == index
        assert place["num_processes"] == spec["completions"]
        host, port = place["coordinator_address"].split(":")
        assert host == f"{name}-0.{service['metadata']['name']}"
        assert port.isdecimal()


@pytest.mark.slow
def test_pods_of_the_manifest_train_together(starter, manifest, tmp_path, expected):
    _, job = manifest
    ours = variables(job)
    assert set(ours) == {"FX_COORDINATOR", "FX_PROCESS_COUNT"}
    # The same variables, with names and a number that are true on this machine.
    outcomes = starter.pods(2, tmp_path, "data:-1", "data", 4)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[0].errors + outcomes[1].errors
    assert (outcomes[0].result["processes"], outcomes[0].result["shards"]["up"]) == (2, [8, 16])
    np.testing.assert_allclose(outcomes[0].result["losses"], expected[:4], rtol=1e-5)
