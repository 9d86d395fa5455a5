"""How many workers do so many accounts need? A simulation of discrete events, with measured costs as its parameters.

::

    python -m cluster_simulation predict --workers 3 --accounts 50 --messages 4000
    python -m cluster_simulation capacity                                     # the table of docs/cluster.md
    python -m cluster_simulation measure                                      # the costs anew, on this machine
    python -m cluster_simulation check                                        # a prediction beside a real run

(With `PYTHONPATH=src:tools`.) `model` is the simulation, `costs` what things cost, `measure` how that is found out.
"""

from __future__ import annotations

from cluster_simulation.costs import Cost, Costs
from cluster_simulation.model import Account, Fleet, Load, Prediction, simulate, uneven_accounts

__all__ = ["Account", "Cost", "Costs", "Fleet", "Load", "Prediction", "simulate", "uneven_accounts"]
