"""Max-blur pooling: max pooling with stride 1, then the binomial filter and the stride of blur pooling (blur.py): max pooling without aliasing.

Source: Zhang, "Making convolutional networks shift-invariant again", ICML 2019, its MaxBlurPool.  The maxima of the n - kernel_size + 1 windows
along an axis are blurred, so y has ceil((n - kernel_size + 1) / stride) elements.  They lie in memory of x's size between the two steps.

Gradient: blur pooling's, given to the maxima's elements.
"""
from ..composed import Composed, Part
from ..forms import FORMS, per_axis
from . import blur
from . import max as maximum

title = "max-blur (anti-aliased max)"
family = "composed"
equation = "y = Σ fᵢ mᵢ, f binomial, m the maxima with stride 1"
gradient = "f at the maxima's elements"
source = "Zhang, ICML 2019"


class Blurred(blur.Blurred):
    """The filter's windows over the maxima."""

    name = "max_blurred"
    words = {**blur.Blurred.words, "kernel_size": "elements of a maximum's window, one number or one an axis"}

    def arguments(self, defaults):
        """The positional and the keyword-only arguments: name, type hint, default."""
        positional, keyword = super().arguments(defaults)
        size, stride = positional
        return [("kernel_size", "int | Sequence[int]", 2), stride, size], keyword

    def axes(self, where, spatial, args, share):
        """The windows over the maxima."""
        kernel, stride, size, mode = args
        kernel = per_axis(kernel, len(spatial), f"{where}: kernel_size")
        left = tuple(n - k + 1 for n, k in zip(spatial, kernel, strict=True))
        if min(left) < 1:
            raise ValueError(f"{where}: kernel_size must be at most x's spatial size {spatial}, got {kernel}")
        return super().axes(where, left, (size, stride, mode), share)


class MaxBlur(Composed):
    """The one after the other."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.max = Part("max", maximum, FORMS["sliding"], self.ndim, self.where)
        self.blur = blur.Blur("blur", blur, blur.Blurred(), self.ndim, self.where)

    def blurring(self, window, backward):
        """What the filter takes: its settings and their types."""
        _, stride, size, mode = window
        return self.blur.settings(backward, filter_size=size, stride=stride, pad_mode=mode)

    def forward_of(self, call, window, x):
        """y."""
        return self.blur.forward(self.max.pool((window[0], 1, 0, 1, False), x), *self.blurring(window, False))

    def backward_of(self, call, window, x, grad):
        """grad_x."""
        maxima = self.max.pool((window[0], 1, 0, 1, False), x)
        return [self.max.pull((window[0], 1, 0, 1, False), x, self.blur.backward(grad, maxima, *self.blurring(window, True)))]


operation = MaxBlur
forms = (Blurred(),)
