"""Random numbers by counter, compiled: each is a function of (seed, sample id, index) alone.

The mixing steps are those of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators").
"""

import numpy as np
from numba import njit

__all__ = ["draw", "sample_key", "uniform"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@njit(nogil=True, cache=True)
def _mixed(x):
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def sample_key(seed, sample_id):
    """The key of all draws of a sample."""
    return _mixed(_mixed(np.uint64(seed) + _STEP) + np.uint64(sample_id) * _STEP)


@njit(nogil=True, cache=True)
def draw(key, index):
    """The draw `index` of a sample, 64 random bits."""
    return _mixed(key + (np.uint64(index) + np.uint64(1)) * _STEP)


@njit(nogil=True, cache=True)
def uniform(bits):
    """A number in [0, 1) of the upper 53 bits."""
    return (bits >> np.uint64(11)) * 2.0**-53
