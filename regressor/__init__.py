"""The HMR regressor on the fitter's losses: network, data, training, evaluation, EFT; starts for the optimiser."""

from fitter.jobs import wait_quietly

wait_quietly()  # before any of the package imports torch
