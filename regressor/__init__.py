"""The HMR regressor on the fitter's losses: network, data, training, evaluation, EFT; starts for the optimiser."""
