"""Example data: real mortgage decisions from an installed package, and simulations with a truth."""

from __future__ import annotations

from fairtrain.datasets.biased import BiasedData, BiasedPopulation, make_biased
from fairtrain.datasets.loans import LoanData, load_loanapp
from fairtrain.datasets.miscalibrated import MiscalibratedData, make_miscalibrated

__all__ = [
    "BiasedData",
    "BiasedPopulation",
    "LoanData",
    "MiscalibratedData",
    "load_loanapp",
    "make_biased",
    "make_miscalibrated",
]
