"""Arrays of every library in and out: what kernels are told must lead to the right bytes, and nothing else may pass."""
import ctypes
import gc
import importlib.util
import math
import subprocess
import sys
import weakref
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbapool import arrays, libraries
from numbapool.arrays import borrow, values, writable
from numbapool.libraries import DTYPES, NUMPY, TORCH, Jax, Standard

LIBRARIES = ("numpy", "torch", "jax", "standard")
NUMBERS = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
# 64 bits in JAX have tests of their own; bfloat16 is refused on its way in from other libraries.
PAIRS = [(name, dtype) for name in LIBRARIES for dtype in DTYPES
         if not (name == "jax" and "64" in dtype) and not (name == "standard" and dtype == "bfloat16")]
ORDERS = (None, (0, 1, 2, 3), (0, 2, 3, 1), (3, 0, 2, 1))
LAYOUTS = {
    "C": lambda x: x,
    "channels last": lambda x: x.transpose(0, 2, 3, 1),
    "negative": lambda x: x[::-1, :, ::-2, ::-1],
    "steps": lambda x: x[:, 1::2, :, 1::3],
    "zero strides": lambda x: np.broadcast_to(x[:1, :, :1], (7, 3, 6, 5)),
    "one element": lambda x: x[1:, 2:, 3:, 4:],
    "0-d": lambda x: x[1, 2, 3, 4, ...],
    "empty": lambda x: x[:, :0],
}


def numpy_dtype(name):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def addresses(array):
    """Of every element in C order: the definition of Array, by hand."""
    steps = [DTYPES[array.dtype].itemsize * stride for stride in array.strides]
    return [array.address + sum(i * step for i, step in zip(index, steps, strict=True)) for index in np.ndindex(array.shape)]


def stored(array):
    size = DTYPES[array.dtype].itemsize
    return b"".join(ctypes.string_at(address, size) for address in addresses(array))


def store(array, content):
    size = DTYPES[array.dtype].itemsize
    for i, address in enumerate(addresses(array)):
        ctypes.memmove(address, content[i * size:(i + 1) * size], size)


class Interface:
    """Offers `__array_interface__` and nothing else."""

    def __init__(self, x):
        self.x, self.__array_interface__ = x, x.__array_interface__


class Dlpack:
    """Offers DLPack and nothing else."""

    device = (1, 0)

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **how):
        return self.x.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.device


class Other(Dlpack):
    """An array of a library that follows the array API standard."""

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=Other)


def library(name):
    if name == "torch":
        pytest.importorskip("torch")
    if name == "jax":
        pytest.importorskip("jax")
    if name == "standard":
        return Standard(SimpleNamespace(from_dlpack=Other))
    return {"numpy": NUMPY, "torch": TORCH, "jax": Jax()}[name]


def as_numpy(x):
    """A caller's object as a NumPy array, not through numbapool."""
    if isinstance(x, Other):
        return x.x
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return np.asarray(x)
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
    return x.numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("writeable", [True, False])
def test_numpy_is_borrowed_in_place(dtype, layout, writeable):
    x = LAYOUTS[layout](NUMBERS.astype(numpy_dtype(dtype)))
    x.flags.writeable = writeable and layout != "zero strides"
    array = borrow(x, "x")
    assert (array.owner is x, array.library is NUMPY, array.dtype, array.shape) == (True, True, dtype, x.shape)
    assert array.address == x.__array_interface__["data"][0]
    assert stored(array) == x.tobytes()


@pytest.mark.parametrize("offset", [0, 1])
def test_numpy_memory_of_odd_steps_is_copied(offset):
    fields = {"names": ["value"], "formats": ["f4"], "offsets": [offset], "itemsize": 6 + offset}
    x = np.zeros(5, fields)
    x["value"] = range(5)
    array = borrow(x["value"], "x")
    assert array.strides == (1,) and array.address % 4 == 0
    assert stored(array) == np.arange(5, dtype="f4").tobytes()


def test_misaligned_numpy_memory_is_copied():
    raw = np.arange(48, dtype=np.uint8)
    start = (1 - raw.ctypes.data) % 4
    x = raw[start:start + 40].view(np.float32)
    array = borrow(x, "x")
    assert array.address % 4 == 0 and stored(array) == x.tobytes()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_extent_order_and_overlap_agree_with_brute_force(data):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    strides = tuple(data.draw(st.integers(-6, 6)) for _ in shape)
    x = np.lib.stride_tricks.as_strided(np.zeros(200, "i4")[100:], shape, [4 * s for s in strides])
    array = borrow(x, "x")
    places = addresses(array)
    assert array.strides == strides
    assert arrays.extent(array) == ((min(places), max(places) + 4) if places else (array.address, array.address))
    order = arrays.memory_order(array)
    assert sorted(order) == list(range(len(shape)))
    told = [abs(strides[axis]) for axis in order if shape[axis] > 1 and strides[axis]]
    assert told == sorted(told, reverse=True)
    try:
        writable(x, shape, "int32", "out", [])
    except ValueError:
        assert places, "an empty array overlaps nothing"
    else:
        assert len(set(places)) == len(places)


@given(st.permutations(range(4)).map(tuple), st.lists(st.integers(2, 4), min_size=4, max_size=4).map(tuple))
def test_dense_arrays_of_any_axis_order_may_be_written_and_keep_their_order(order, shape):
    x = NUMPY.empty(shape, "float32", order)
    assert arrays.memory_order(x) == order
    assert writable(x.owner, shape, "float32", "out", []) == x


def test_single_and_repeated_elements_follow_c_order():
    x = np.zeros((2, 1, 4, 1, 5), "f4")
    assert arrays.memory_order(borrow(x, "x")) == (0, 1, 2, 3, 4)
    assert arrays.memory_order(borrow(x.transpose(0, 2, 4, 1, 3), "x")) == (0, 1, 2, 3, 4)
    assert arrays.memory_order(borrow(np.broadcast_to(np.zeros((1, 1, 3, 4)), (2, 3, 3, 4)), "x")) == (0, 1, 2, 3)


@pytest.mark.parametrize("x", [[1.0], (1.0,), 1.0, None, "x", b"x", memoryview(b"x"), np.float32(1), np.ndarray],
                         ids=lambda x: type(x).__name__)
def test_no_array(x):
    with pytest.raises(TypeError, match=rf"^soft_pool2d: x must be an array, got {type(x).__name__}$"):
        borrow(x, "soft_pool2d: x")


@pytest.mark.parametrize("dtype", ["c8", "O", "U3", "M8[s]", "i4, f4", "V2"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=r"^f: x has dtype \S+; supported are float16, bfloat16, float32"):
        borrow(np.zeros(3, dtype), "f: x")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "uint16"])
def test_foreign_byte_order_is_refused(dtype):
    x = np.zeros(3, numpy_dtype(dtype).newbyteorder())
    for repeat in range(2):  # the second time the dtype could be known
        with pytest.raises(TypeError, match=rf"foreign byte order.*x.astype\('{dtype}'\)"):
            borrow(x, "f: x")
        borrow(np.zeros(3, numpy_dtype(dtype)), "f: x")


def test_numpy_aliases_and_subclasses():
    class Named(np.ndarray):
        pass

    assert borrow(np.zeros(3, np.longlong), "x").dtype == "int64"
    x = np.arange(6.0).view(Named)
    assert borrow(x, "x")[:4] == borrow(np.asarray(x), "x")[:4]
    with pytest.raises(TypeError, match="mask would be lost"):
        borrow(np.ma.masked_less(np.arange(3.0), 1), "x")


def test_both_ways_to_an_address_agree():
    for make in LAYOUTS.values():
        x = make(NUMBERS)
        assert libraries._address_by_layout(x) == libraries._address_by_protocol(x) == x.ctypes.data


@pytest.mark.parametrize("wrap", [Interface, Dlpack, Other])
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bfloat16"])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "empty"])
def test_protocols_are_borrowed_in_place(wrap, dtype, layout):
    x = LAYOUTS[layout](NUMBERS.astype(dtype))
    array = borrow(wrap(x), "x")
    assert array.address == x.ctypes.data
    assert stored(array) == x.tobytes()
    assert isinstance(array.library, Standard) if wrap is Other else array.library is NUMPY


def test_protocol_objects_may_be_read_only_empty_and_short_lived():
    x = np.arange(5.0)
    x.flags.writeable = False
    for wrap in (Interface, Dlpack):
        assert stored(borrow(wrap(x), "x")) == x.tobytes()
        assert borrow(wrap(np.zeros((0, 3))), "x").shape == (0, 3)
    array = borrow(Dlpack(np.full(100_000, 7.0)), "x")
    gc.collect()
    assert set(stored(array)) == set(np.float64(7).tobytes())


def test_refused_exports_are_buffer_errors():
    class Cuda(Dlpack):
        device = (2, 1)

    class Metal(Dlpack):
        device = (8, 0)

    class Refuses(Dlpack):
        def __dlpack__(self, **how):
            raise ZeroDivisionError("no export today")

    with pytest.raises(BufferError, match="x is a Cuda on a CUDA device, for which results are CuPy's"):
        borrow(Cuda(np.zeros(3)), "x")
    with pytest.raises(BufferError, match=r"x is on DLPack device \(8, 0\); numbapool has kernels for CPUs and CUDA"):
        borrow(Metal(np.zeros(3)), "x")
    with pytest.raises(BufferError, match="x cannot be borrowed through DLPack.*no export today"):
        borrow(Refuses(np.zeros(3)), "x")
    with pytest.raises(BufferError, match="a CUDA device, for which results are CuPy's"):
        borrow(SimpleNamespace(__cuda_array_interface__={}), "x")
    with pytest.raises(BufferError, match="through __array_interface__"):
        borrow(SimpleNamespace(__array_interface__={"version": 3}), "x")


def test_bfloat16_by_dlpack_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(BufferError, match="NumPy takes no bfloat16"):
        borrow(Dlpack(torch.zeros(3, dtype=torch.bfloat16)), "x")


TORCH_LAYOUTS = {
    "C": lambda x: x,
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "steps": lambda x: x[:, 1::2, :, 1::3],
    "expanded": lambda x: x[:1, :, :1].expand(7, 3, 6, 5),
    "one element": lambda x: x[1:, 2:, 3:, 4:],
    "0-d": lambda x: x[1, 2, 3, 4],
    "empty": lambda x: x[:, :0],
}


@pytest.mark.parametrize("layout", TORCH_LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_is_borrowed_in_place(dtype, layout):
    torch = pytest.importorskip("torch")
    x = TORCH_LAYOUTS[layout](torch.from_numpy(NUMBERS).to(getattr(torch, dtype)))
    array = borrow(x, "x")
    assert (array.owner is x, array.library is TORCH, array.dtype) == (True, True, dtype)
    assert (array.address, array.shape, array.strides) == (x.data_ptr(), tuple(x.shape), x.stride())
    assert stored(array) == as_numpy(x.contiguous()).tobytes()


def test_torch_empty_tensor_without_memory():
    torch = pytest.importorskip("torch")
    assert borrow(torch.empty(0, 3), "x")[:3] == (0, (0, 3), (3, 1))


def test_torch_negative_bit_is_resolved():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert x.is_neg()
    assert stored(borrow(x, "x")) == np.float32([-2, 4]).tobytes()
    with pytest.raises(ValueError, match="negative bit"):
        writable(x, (2,), "float32", "out", [])


def test_torch_requires_grad_only_outside_of_autograd():
    torch = pytest.importorskip("torch")
    x = torch.nn.Parameter(torch.arange(3.0))
    with pytest.raises(BufferError, match=r"x requires grad.*x\.detach\(\).*torch\.no_grad\(\)"):
        borrow(x, "x")
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            assert stored(borrow(x, "x")) == np.arange(3, dtype="f4").tobytes()
    assert borrow(x.detach(), "x").address == x.data_ptr()
    with torch.inference_mode():
        inference = torch.ones(3, requires_grad=True)
    assert borrow(inference, "x").address == inference.data_ptr()


TORCH_REFUSED = {
    "complex": (lambda torch: torch.zeros(3, dtype=torch.complex64), TypeError, "dtype complex64"),
    "conjugate": (lambda torch: torch.zeros(3, dtype=torch.complex64).conj(), TypeError, "dtype complex64"),
    "quantised": (lambda torch: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
                  TypeError, "dtype quint8"),
    "float8": (lambda torch: torch.zeros(3, dtype=torch.float8_e4m3fn), TypeError, "dtype float8_e4m3fn"),
    "coo": (lambda torch: torch.eye(3).to_sparse(), BufferError, r"layout torch\.sparse_coo"),
    "csr": (lambda torch: torch.eye(3).to_sparse_csr(), BufferError, r"layout torch\.sparse_csr"),
    "mkldnn": (lambda torch: torch.eye(3).to_mkldnn(), BufferError, r"layout torch\._mkldnn"),
    "nested": (lambda torch: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), BufferError, "nested"),
    "meta": (lambda torch: torch.zeros(3, device="meta"), BufferError, "device meta; numbapool has kernels for CPUs and CUDA devices"),
    "zero tensor": (lambda torch: torch._efficientzerotensor((3,)), BufferError, "address is null"),
}


@pytest.mark.filterwarnings("ignore")  # torch deprecates some of these layouts
@pytest.mark.parametrize("kind", TORCH_REFUSED)
def test_torch_refusals(kind):
    make, error, message = TORCH_REFUSED[kind]
    x = make(pytest.importorskip("torch"))
    with pytest.raises(error, match="f: x .*" + message):
        borrow(x, "f: x")


def test_torch_virtual_tensors_are_refused():
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake.FakeTensorMode():
        with pytest.raises(BufferError, match="FakeTensor"):
            borrow(torch.zeros(3), "x")
        with pytest.raises(BufferError, match="FakeTensor"):
            borrow(torch.zeros(3, device="cuda"), "x")
        with pytest.raises(BufferError, match="FakeTensor"):
            TORCH.empty((3,), "float32")
    with pytest.raises(BufferError, match="no memory of its own"):
        torch.func.vmap(lambda x: borrow(x, "x"))(torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [name for name in DTYPES if "64" not in name])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (120,), (1,), (), (0, 3)])
def test_jax_is_borrowed_in_place(dtype, shape):
    jnp = pytest.importorskip("jax.numpy")
    x = jnp.asarray(NUMBERS.ravel()[:math.prod(shape)].reshape(shape), dtype=dtype)
    array = borrow(x, "x")
    assert (array.dtype, array.shape, isinstance(array.library, Jax)) == (dtype, shape, True)
    assert not x.size or array.address == x.unsafe_buffer_pointer()
    assert stored(array) == np.asarray(x).tobytes()


def test_jax_refusals():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones(3)
    for transform in (jax.jit, jax.grad, jax.vmap):
        with pytest.raises(TypeError, match="x is a JAX tracer.*outside jit, grad and vmap"):
            transform(lambda x: borrow(x, "x"))(x[0] if transform is jax.grad else x)
    with pytest.raises(TypeError, match="dtype complex64"):
        borrow(x.astype("complex64"), "x")
    with pytest.raises(TypeError, match="dtype key"):
        borrow(jax.random.key(0), "x")
    x.delete()
    with pytest.raises(BufferError, match="deleted"):
        borrow(x, "x")


def test_jax_on_another_device():
    """Those of CUDA devices are CuPy's to borrow, which is not installed here."""
    jax = pytest.importorskip("jax")

    class Elsewhere(jax.Array):
        dtype, device = np.dtype("float32"), "there:0"

        def __init__(self, platform):
            self.platform = platform

        def is_deleted(self):
            return False

        def devices(self):
            return [SimpleNamespace(platform=self.platform)]

    with pytest.raises(BufferError, match="device there:0; pass it through DLPack to torch or CuPy"):
        borrow(Elsewhere("tpu"), "x")
    if importlib.util.find_spec("cupy") is None:
        with pytest.raises(BufferError, match="on a CUDA device, for which results are CuPy's"):
            borrow(Elsewhere("gpu"), "x")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name, dtype", PAIRS)
def test_results_hold_what_kernels_wrote(name, dtype, order):
    expected = NUMBERS.astype(numpy_dtype(dtype))
    result = library(name).empty((2, 3, 4, 5), dtype, order)
    for place, axis in enumerate(order or (0, 1, 2, 3)):
        faster = (order or (0, 1, 2, 3))[place + 1:]
        assert result.strides[axis] == math.prod(result.shape[i] for i in faster)
    store(result, expected.tobytes())
    handed = library(name).give(result)
    assert as_numpy(handed).dtype == expected.dtype and as_numpy(handed).shape == (2, 3, 4, 5)
    assert as_numpy(handed).tobytes() == expected.tobytes()
    assert type(borrow(handed, "y").library) is type(result.library)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_results_of_odd_shapes(name, shape):
    result = library(name).empty(shape, "float32", tuple(range(len(shape)))[::-1])
    store(result, np.full(shape, 2.5, "f4").tobytes())
    np.testing.assert_array_equal(as_numpy(library(name).give(result)), np.full(shape, 2.5, "f4"), strict=True)


def test_torch_results_are_channels_last_untracked_and_on_the_cpu():
    torch = pytest.importorskip("torch")
    torch.set_default_device("meta")
    try:
        owner = TORCH.empty((2, 3, 5, 7), "float32", (0, 2, 3, 1)).owner
    finally:
        torch.set_default_device(None)
    assert owner.is_contiguous(memory_format=torch.channels_last) and not owner.is_contiguous()
    assert owner.device.type == "cpu" and not owner.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "int32"])
def test_jax_adopts_results_without_a_copy(dtype):
    pytest.importorskip("jax")
    assert not any(Jax().empty((size,), dtype).address % 64 for size in range(1, 200))
    result = Jax().empty((3, 5, 7), dtype)
    address = result.address
    expected = NUMBERS.ravel()[:105].astype(numpy_dtype(dtype)).tobytes()
    store(result, expected)
    handed = Jax().give(result)
    del result
    gc.collect()
    assert handed.unsafe_buffer_pointer() == address
    assert np.asarray(handed).tobytes() == expected


def test_jax_results_are_committed_where_the_input_is():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones(3)
    for source, committed in ((x, False), (jax.device_put(x, jax.devices()[0]), True)):
        lib = borrow(source, "x").library
        assert lib.give(lib.empty((2,), "float32")).committed == committed
        assert lib.from_numpy(np.ones(2), "float32").committed == committed


@pytest.mark.parametrize("dtype, least, most", [("int64", -2**31, 2**31 - 1), ("uint64", 0, 2**32 - 1)])
def test_jax_without_64_bits_narrows_what_fits(dtype, least, most):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        handed = Jax().from_numpy(np.array([least, most], dtype), dtype)
        assert handed.dtype == dtype.replace("64", "32") and handed.tolist() == [least, most]
        assert Jax().give(Jax().empty((0,), dtype)).shape == (0,)
        for wrong in (most + 1, least - 1)[:1 + (least < 0)]:
            with pytest.raises(ValueError, match="does not fit u?int32, and JAX needs jax_enable_x64"):
                Jax().from_numpy(np.array([wrong], dtype), dtype)
    with jax.enable_x64(True):
        handed = Jax().from_numpy(np.array([most + 1], dtype), dtype)
        assert handed.dtype == dtype and handed.tolist() == [most + 1]
        assert borrow(handed, "x").dtype == dtype
        assert Jax().give(Jax().empty((2,), "float64")).dtype == "float64"


@pytest.mark.parametrize("name, dtype", PAIRS)
def test_from_numpy_converts_a_copy(name, dtype):
    for source in (np.array(1.5), np.arange(6.0)[::-2], np.zeros((0, 2))):
        expected = source.astype(numpy_dtype(dtype))
        handed = library(name).from_numpy(source, dtype)
        source += 1
        np.testing.assert_array_equal(as_numpy(handed), expected, strict=True)


def test_standard_falls_back_to_asarray_and_numpy():
    class Lists(Dlpack):
        def __array_namespace__(self):
            return SimpleNamespace(asarray=np.ndarray.tolist)

    lib = borrow(Lists(np.zeros(3)), "x").library
    assert lib.from_numpy(np.arange(3), "float32") == [0, 1, 2]
    assert type(borrow(Dlpack(np.zeros(3)), "x").library.from_numpy(np.arange(3), "float32")) is np.ndarray


def test_writable_returns_where_to_write():
    out = np.zeros((2, 3), "f4", order="F")[:, ::-1]
    assert writable(out, (2, 3), "float32", "out", [borrow(np.zeros(3), "x")]) == borrow(out, "out")
    assert NUMPY.give(writable(out, (2, 3), "float32", "out", [])) is out


def odd_steps():
    return np.zeros(3, [("value", "f4"), ("tail", "i2")])["value"]


def read_only():
    x = np.zeros(3, "f4")
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("out, error, message", [
    ([0.0] * 3, TypeError, "NumPy or CuPy array or a torch tensor, got list"),
    (Interface(np.zeros(3, "f4")), TypeError, "got Interface"),
    (np.ma.zeros(3, "f4"), TypeError, "MaskedArray"),
    (np.zeros(3, "f8"), TypeError, "dtype float32, got float64"),
    (np.zeros((1, 3), "f4"), ValueError, r"shape \(3,\), got \(1, 3\)"),
    (read_only(), ValueError, "read-only"),
    (odd_steps(), ValueError, "strides of whole elements"),
    (np.lib.stride_tricks.as_strided(np.zeros(3, "f4"), (3,), (0,)), ValueError, "overlap itself"),
], ids=["list", "interface", "masked", "dtype", "shape", "read-only", "odd steps", "repeated"])
def test_writable_refusals(out, error, message):
    with pytest.raises(error, match="f: out .*" + message):
        writable(out, (3,), "float32", "f: out", [])


def test_writable_refuses_the_memory_of_inputs():
    x = np.zeros(10, "f4")
    other = borrow(np.zeros(4, "f4"), "x")
    for taken in (x[:4], x[3:7], x[6::-1], x[6:7]):
        with pytest.raises(ValueError, match="overlaps the memory of an input"):
            writable(x[3:7], (4,), "float32", "out", [other, borrow(taken, "x")])
    writable(x[3:7], (4,), "float32", "out", [borrow(x[:3], "x"), borrow(x[7:], "x"), borrow(x[4:4], "x")])


def test_writable_torch():
    torch = pytest.importorskip("torch")
    out = torch.zeros(3)
    assert writable(out, (3,), "float32", "out", []).owner is out
    with pytest.raises(ValueError, match="overlap itself"):
        writable(torch.zeros(1).expand(3), (3,), "float32", "out", [])
    with torch.no_grad(), pytest.raises(BufferError, match=r"requires grad.*out\.detach\(\)"):
        writable(torch.zeros(3, requires_grad=True), (3,), "float32", "out", [])
    with torch.inference_mode():
        writable(torch.zeros(3), (3,), "float32", "out", [])


def test_autograd_notices_writes_into_out():
    torch = pytest.importorskip("torch")
    weight, saved = torch.ones(3, requires_grad=True), torch.zeros(3)
    loss = (weight * saved).sum()
    writable(saved, (3,), "float32", "out", [])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_writable_refuses_jax():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TypeError, match="NumPy or CuPy array or a torch tensor"):
        writable(jnp.zeros(3), (3,), "float32", "out", [])
    with pytest.raises(ValueError, match="read-only"):
        writable(np.asarray(jnp.zeros(3)), (3,), "float32", "out", [])


@pytest.mark.parametrize("x, expected", [
    (3, np.float64(3)), (2.5, np.float64(2.5)), (Fraction(1, 4), np.float64(0.25)),
    (np.float32(0.1), np.float32(0.1)), (np.int8(-3), np.int8(-3)),
    (np.float16([0.1, 2]), np.float32(np.float16([0.1, 2]))),
    (np.arange(6.0).reshape(2, 3).T, np.arange(6.0).reshape(2, 3).T), (Dlpack(np.arange(3)), np.arange(3)),
])
def test_values(x, expected):
    np.testing.assert_array_equal(values(x, "p"), np.asarray(expected), strict=True)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_values_of_every_library(name, dtype):
    expected = np.array([[-1.7, 3.3e4, 0.1]]).astype(numpy_dtype(dtype))
    x = library(name).from_numpy(np.array([[-1.7, 3.3e4, 0.1]]), dtype)
    result = values(x, "p")
    np.testing.assert_array_equal(result, expected if dtype == "int32" else expected.astype("f4"), strict=True)


def test_values_is_a_read_only_view_that_keeps_its_memory():
    x = np.arange(3.0)
    seen = values(x, "p")
    assert np.shares_memory(seen, x) and not seen.flags.writeable
    memory = weakref.ref(x)
    del x
    gc.collect()
    assert memory() is not None
    del seen
    gc.collect()
    assert memory() is None


@pytest.mark.parametrize("x", [True, np.True_, np.array([True]), 1j, np.complex64(1), "3", None, [1.0], np.array("3")])
def test_values_refusals(x):
    with pytest.raises(TypeError, match="^lse: r (must be a number or an array, got|must hold numbers, got|has) "):
        values(x, "lse: r")


@pytest.mark.parametrize("dtype", [name for name in DTYPES if DTYPES[name].kind != "float"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_float_converts_integers(dtype, layout):
    x = LAYOUTS[layout](NUMBERS.astype(dtype))
    array = arrays.as_float(borrow(x, "x"))
    expected = np.ascontiguousarray(x).astype("f8" if "64" in dtype else "f4")
    assert (array.dtype, array.shape) == (expected.dtype.name, x.shape)
    assert stored(array) == expected.tobytes()
    if layout == "channels last":
        assert arrays.memory_order(array) == arrays.memory_order(borrow(x, "x")) == (0, 3, 1, 2)


def test_as_float_keeps_library_and_floating_arrays():
    torch = pytest.importorskip("torch")
    x = borrow(torch.from_numpy(NUMBERS).contiguous(memory_format=torch.channels_last), "x")
    assert arrays.as_float(x).library is TORCH
    assert arrays.as_float(x).strides == x.strides == (60, 1, 15, 3)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        floating = borrow(torch.zeros(3, dtype=dtype), "x")
        assert arrays.as_float(floating) is floating


def test_extremes_survive_as_float():
    for dtype in ("int32", "int64", "uint64"):
        limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        assert stored(arrays.as_float(borrow(limits, "x"))) == limits.astype("f8" if "64" in dtype else "f4").tobytes()


def test_import_loads_no_other_array_library():
    code = f"import sys; sys.path[:] = {sys.path!r}; import numbapool.arrays; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "numbapool.arrays" in loaded
    assert not {"torch", "jax", "jaxlib", "ml_dtypes", "cupy"} & set(loaded)
