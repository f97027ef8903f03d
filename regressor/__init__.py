"""The HMR regressor, trained by fitter's losses. Not built yet."""
