"""nnU-Net v2 on our split of a data set: converted, planned, trained for a number of minutes, and asked for masks.

Needs the environment of requirements-eval.txt. Everything of one source lies in a folder of its own, see `workspace`.
"""

from eval.nnunet.command import add_arguments, run

__all__ = ["add_arguments", "run"]
