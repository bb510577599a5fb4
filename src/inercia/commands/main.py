"""The `inercia` command: demo, train, predict, compare, order, edge, explore, figures.

Exit codes: 0 done; 1 the computation failed (it diverged, or the solver gave up); 2 wrong input; 75 another process of
a distributed training was lost (134 where JAX itself ends the process for it): start it again; 130 interrupted.

Compiled programs are kept for the next call, see `program_cache`; `--no-cache` keeps none.
"""

import sys
from pathlib import Path

import tyro

from inercia.commands import (
    program_cache,
    run_compare,
    run_demo,
    run_edge,
    run_explore,
    run_figures,
    run_order,
    run_predict,
    run_train,
)
from inercia.commands.options import FailedError
from inercia.flows.integration import IntegrationError


def demo(out: Path = Path("figures/demo"), seed: int = 0) -> None:
    """Train on the bundled digits, check against optax, solve the momentum ODE, draw the figures.

    Args:
        out: Folder for the figures.
        seed: Fixes the starting weights and all batches.
    """
    run_demo.demo(out, seed=seed)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; leaves by `SystemExit`.

    Args:
        arguments: by default those of the process, which then keeps its compiled programs for the next one.
    """
    of_process = arguments is None
    given = sys.argv[1:] if arguments is None else arguments
    arguments = [argument for argument in given if argument != program_cache.OFF]
    if of_process and arguments == given:
        program_cache.switch_on()
    commands = {
        "demo": demo,
        "train": run_train.train,
        "predict": run_predict.predict,
        "compare": run_compare.compare,
        "order": run_order.order,
        "edge": run_edge.edge,
        "explore": run_explore.explore,
        "figures": run_figures.figures,
    }
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="inercia",
            description="Optimizers that know their own continuous-time limit: train networks, and see how far "
            "the iterates are from the differential equation they follow. Compiled programs are kept in the user's "
            "cache folder, so that the next call starts at once; --no-cache keeps none.",
            args=arguments,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"inercia: {error}", file=sys.stderr)
        sys.exit(2)
    except (FailedError, IntegrationError) as error:
        print(f"inercia: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("inercia: interrupted", file=sys.stderr)
        sys.exit(130)
