"""GPU use of pods, from the cluster's Prometheus.

Nautilus judges a pod by the average of DCGM's utilization over the pod's life, and publishes the
figures at https://prometheus.nrp-nautilus.io. A run's record has its own figure, from NVML; if the
two differ much, one of them measures something else.
"""

import json
import math
from collections.abc import Collection
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from rsdl import __version__
from rsdl.core.errors import ConfigError, UnreachableError
from rsdl.core.http_status import is_temporary

TIMEOUT_S = 30
# A Job's pods are kept for a week after its end. A pod has samples only while it lives.
QUERY = 'avg by (pod) (avg_over_time(DCGM_FI_DEV_GPU_UTIL{{namespace="{namespace}"}}[7d]))'
OPTION = "--prometheus"


def read_gpu_use(url: str, namespace: str, jobs: Collection[str]) -> dict[str, float]:
    """Return the share of the time that the GPUs of Jobs were busy, 0 to 1, by Job name.

    Args:
        url: Prometheus, such as https://prometheus.nrp-nautilus.io.
        namespace: Namespace of the pods.
        jobs: Names of Jobs. A Job whose pods have no samples is left out. A Job with several pods,
            including preempted ones, gets their mean.

    Raises:
        ConfigError: If there is no Prometheus at the address, or it rejects the query.
        UnreachableError: If it does not answer.
    """
    answer = _ask(url, QUERY.format(namespace=namespace))
    shares: dict[str, list[float]] = {}
    for pod, percent in answer.items():
        # hrrsi-resnet50-ucm-x7k2p, or hrrsi-indexed-3-x7k2p of an index.
        job = next((name for name in _owners(pod) if name in jobs), None)
        if job is not None:
            shares.setdefault(job, []).append(percent / 100)
    return {job: sum(found) / len(found) for job, found in shares.items()}


def _owners(pod: str) -> tuple[str, str]:
    """Return the possible names of a pod's Job: as such, and with its index as ``JOB[INDEX]``."""
    job = pod.rpartition("-")[0]
    name, _, index = job.rpartition("-")
    return job, f"{name}[{index}]"


def _ask(url: str, query: str) -> dict[str, float]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(OPTION, f"{url} is no address", "write https://HOST")
    address = f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    request = Request(address, headers={"User-Agent": f"rsdl/{__version__}"})
    remedy = "check the address, or leave it out"
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            page = json.load(answer)
        result = page["data"]["result"]
        pairs = [(each["metric"]["pod"], float(each["value"][1])) for each in result]
    except HTTPError as error:
        error.close()
        kind = UnreachableError if is_temporary(error.code) else ConfigError
        raise kind(OPTION, f"{url} answers {error.code} {error.reason}", remedy) from error
    except (ValueError, TypeError, LookupError) as error:
        raise ConfigError(OPTION, f"{url} is no Prometheus with DCGM's figures", remedy) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(OPTION, f"{url} does not answer: {reason}", remedy) from error
    return {pod: value for pod, value in pairs if math.isfinite(value)}
