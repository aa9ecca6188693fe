"""adaPool: y = beta eDSCW(x) + (1 - beta) soft(x); beta, learnable, is a number or one an output position.

Source: Stergiou, Poppe, "AdaPool: exponential adaptive pooling for information-retaining downsampling", arXiv:2111.00772:
eDSCW (edscw.py) weighs elements by their Dice-Sorensen likeness to the window's mean, eMPool is soft pooling (soft.py).  beta = 1 is eDSCW alone.

Gradient: beta times the one's plus 1 - beta times the other's, both the true ones; dy/dbeta = eDSCW(x) - soft(x).

The authors' CUDA code treats the weights as constants, gives an all-zero window no gradient, never writes the gradient of beta in its native
version, and reads wrong elements where stride and kernel differ and in 3d.  Its IDW pooling is idw.py.
"""
from ..composed import Blend
from ..parameters import REQUIRED, Parameter
from . import edscw, soft

title = "adaPool"
family = "composed"
equation = "y = β eDSCW(x) + (1 − β) soft(x)"
gradient = "β times eDSCW's, 1 − β times soft's; for β eDSCW(x) − soft(x)"
source = "Stergiou, Poppe, arXiv:2111.00772"
forms = ("sliding",)
defaults = {"kernel_size": 2}
example = {"beta": "0.5"}
operation = Blend
parts = (("edscw", edscw), ("soft", soft))
parameters = (Parameter("beta", REQUIRED, "array", "eDSCW's share, a number or one an output position", leading=True, learnable=True,
                        shapes=("number", "position")),)
