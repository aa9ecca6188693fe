"""Mixed max-average pooling: y = a max x + (1 - a) avg x, with a learnable, one number, one a channel, or one a channel and output position.

Source: Lee, Gallagher, Tu, "Generalizing pooling functions in convolutional neural networks: mixed, gated, and tree", AISTATS 2016.
a is not bounded, as there.  The average divides by the elements inside the input.

Gradient: dy/dx_i = a [x_i is the maximum] + (1 - a) / n, the first of equal maxima; dy/da = max - avg.
"""
from ..composed import Blend
from ..parameters import REQUIRED, Parameter
from . import avg
from . import max as maximum

title = "mixed max-average"
family = "composed"
equation = "y = a max x + (1 − a) Σ xᵢ / n"
gradient = "a for the maximum, and (1 − a) / n; for a max x − Σ xᵢ / n"
source = "Lee et al., AISTATS 2016"
forms = ("sliding", "adaptive", "global")
example = {"a": "0.5"}
operation = Blend
parts = (("max", maximum), ("avg", avg))
parameters = (
    Parameter("a", REQUIRED, "array", "the maximum's share, a number, one a channel (C,), or one a channel and position (C, *out)", leading=True,
              learnable=True, shapes=("number", "channel", "channel_position")),
)
