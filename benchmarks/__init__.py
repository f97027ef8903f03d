from fitter.jobs import wait_quietly

wait_quietly()  # before any of the package imports torch
