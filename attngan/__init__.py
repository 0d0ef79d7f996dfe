"""AttnGAN (Xu et al., CVPR 2018): pictures from sentences, as a library and a Kubeflow pipeline."""

import os

__version__ = "0.1.0"

# torch's OpenMP threads spin while they wait for each other, for milliseconds. Where anything else runs on the cores, a
# thread then spins in the place of the one that it waits for, and a training is many times slower than its share of the
# machine. So they sleep, after as many turns (some hundredths of a millisecond) as there are between most operations of
# a step: waking a thread each time would cost the smallest networks a tenth of their speed. libgomp reads both once,
# when torch loads it; processes that are started from here inherit them (`python -m benchmarks.waiting` measures it).
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2500"}
