"""`python fit.py`'s ways that need the network: --method eft, --init checkpoint:FILE. All others go to the fitter."""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fitter.cli import SKIPPED, read_config
from fitter.cli import main as fit_main
from regressor.config import FROM_NETWORK


def main(arguments: list[str] | None = None) -> int:
    """Exit codes are the fitter's (`fitter.cli.main`)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        config = read_config(words)
    except ValueError:
        return fit_main(words)  # which says what is wrong
    from_network = (config.init or "").startswith(FROM_NETWORK)
    if config.method == "optimize" and not from_network:
        return fit_main(words)
    from fitter.run import run_folder
    from regressor.sessions import EftSession, StartedSession

    try:
        if config.method == "eft" and not config.checkpoint:
            raise ValueError("method eft: expected --checkpoint FILE of a regressor, got none")
        return SKIPPED if run_folder(config, EftSession if config.method == "eft" else StartedSession) else 0
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"fit.py: {error}", file=sys.stderr)
        return 2
