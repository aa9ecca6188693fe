"""The C library on CUDA devices: what is refused and how, memory, streams, graphs, threads, forks; behind the mock driver, where no kernel runs."""
from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import mock_cuda
import numpy as np
import pytest
from capi_cuda import Device, compiled, loaded

from capi import build, cuda, cuda_images
from numbapool.loops.cuda import layout as at

pytestmark = pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")
X = np.arange(96, dtype=np.float32).reshape(1, 4, 4, 6)
BLOCKS = {"cuMemAlloc_v2": "table", "cuMemAllocAsync": "workspace", "cuStreamCreate": "stream of copies", "cuMemcpyHtoDAsync_v2": "copy"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library of float32's kernels, whose images are their names."""
    return compiled([e for e in cuda.entries() if e.dtype == "float32"], tmp_path_factory.mktemp("cuda"))


class Memory:
    """Arrays in the mock's memory, as the emulator makes them."""

    def __init__(self, mock: mock_cuda.Mock) -> None:
        self.mock, self.device = mock, 0

    def array(self, values: np.ndarray) -> SimpleNamespace:
        address = self.mock.allocate(max(values.nbytes, 1), self.device)
        there = self.mock.view(address, values.shape, values.dtype)
        there[...] = values
        return SimpleNamespace(memory=there)


@pytest.fixture
def mock():
    with mock_cuda.Mock() as mock:
        yield mock


@pytest.fixture
def capi(library, mock, tmp_path):
    """Calls of a library that has not been used yet."""
    return Device(loaded(library, tmp_path / "libnumbapool.so"), Memory(mock))


def soft(capi, *args, **kwargs):
    return capi.forward("soft_pool2d", X, 2, *args, **kwargs)


def soft_backward(capi):
    """Windows overlap: two kernels, and memory between them."""
    return capi.backward("soft_pool2d", np.ones((1, 4, 2, 3), np.float32), X, 3, 2, 1)


# ---------------------------------------------------------------- the driver

def test_without_a_driver_the_message_says_so_and_the_next_call_tries_again(capi, monkeypatch, tmp_path):
    right = os.environ[mock_cuda.VARIABLE]
    monkeypatch.setenv(mock_cuda.VARIABLE, str(tmp_path / "none.so"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"numbapool_soft_pool: no CUDA driver: \S+none.so cannot be loaded \(.*No such file"):
            soft(capi)
    monkeypatch.setenv(mock_cuda.VARIABLE, right)
    soft(capi)


@pytest.mark.parametrize(("settings", "message"), [
    ({"version": 11010}, "the CUDA driver is too old: it supports CUDA 11.1, and 11.2 is needed"),
    ({"devices": 0}, r"cuInit: CUDA_ERROR_NO_DEVICE \(100\): no CUDA-capable device is detected"),
    ({"init": 999}, r"cuInit: unknown error \(999\)")])
def test_drivers_that_cannot_serve(library, tmp_path, settings, message):
    with mock_cuda.Mock(**settings) as mock, pytest.raises(RuntimeError, match=message):
        soft(Device(loaded(library, tmp_path / "a.so"), Memory(mock)))


def test_a_library_that_is_no_driver(capi, monkeypatch, library):
    monkeypatch.setenv(mock_cuda.VARIABLE, str(library))
    with pytest.raises(RuntimeError, match="is none: it has no function cuDriverGetVersion"):
        soft(capi)


def test_calls_that_touch_no_memory_need_no_driver(capi, monkeypatch):
    monkeypatch.setenv(mock_cuda.VARIABLE, "/none.so")
    name, tensors, params = capi.bound("soft_pool2d", X, (2,), {})
    assert capi.shape(name, X, params) == (1, 4, 2, 3)
    capi.forward("soft_pool2d", X[:0], 2)
    capi.settings = {"workspace_needed": capi.ffi.new("size_t *")}
    soft(capi)
    soft_backward(capi)
    assert capi.settings["workspace_needed"][0] == 3 * 256  # three rows of work memory are less than two times 256 bytes, and room to align it


def test_a_library_without_cuda_kernels(mock, tmp_path):
    place = os.environ.get("NUMBAPOOL_CAPI") or str(build.DEFAULT)
    built = os.path.join(place, "lib", "libnumbapool.so")
    if not os.path.exists(built):
        pytest.skip("the C library is not built: make capi")
    if cuda_built(built):
        pytest.skip("the C library is built with CUDA kernels")
    message = r"x is on a CUDA device, but this library was built without CUDA kernels \(python -m capi.build --cuda\)"
    with pytest.raises(NotImplementedError, match=message):
        soft(Device(loaded(built, tmp_path / "a.so"), Memory(mock)))


def cuda_built(library: str) -> bool:
    return b"numbapool_soft_fold_forward" in Path(library).read_bytes()


# ---------------------------------------------------------------- devices

def test_a_device_that_is_not_there(capi):
    capi.device = 2
    with pytest.raises(BufferError, match="numbapool_soft_pool: the tensors are on CUDA device 2, but there are 2"):
        soft(capi)
    capi.device = -1
    with pytest.raises(BufferError, match="there is no CUDA device of such a device_id"):
        soft(capi)


def test_a_device_that_is_too_old(capi, mock):
    mock.properties(0, (7, 0))
    with pytest.raises(NotImplementedError, match=r"CUDA device 0 \(Mock GPU 0\) has compute capability 7.0, and 7.5 is needed"):
        soft(capi)
    assert mock.retained(0) == 0


def test_tensors_in_two_places_are_refused(capi):
    name, tensors, params = capi.bound("soft_pool2d", X, (2,), {})
    y = np.zeros((1, 4, 2, 3), np.float32)
    made = {n: capi.tensor(a) for n, a in {"x": X, "y": y}.items()}
    for device, message in (((1, 0), "y must be on CUDA device 0, as x is, but is in the CPU's memory"), ((2, 1), "but is on CUDA device 1"),
                            ((3, 0), "device type 3")):
        made["y"].t.device.device_type, made["y"].t.device.device_id = device
        with pytest.raises(BufferError, match=message):
            capi.check(capi.lib.numbapool_soft_pool(made["x"].t, made["y"].t, params.p))
    made["x"].t.device.device_type, made["y"].t.device.device_type = 1, 2
    with pytest.raises(BufferError, match="y must be in the CPU's memory, as x is, but is on CUDA device"):
        capi.check(capi.lib.numbapool_soft_pool(made["x"].t, made["y"].t, params.p))


def test_the_second_device_and_the_context_that_was_current(capi, mock):
    capi.gpu.device = capi.device = 1
    mock.current(0)
    soft(capi)
    assert [launch.device for launch in mock.launches()] == [1] and mock.depth() == 1
    capi.gpu.device = capi.device = 0
    soft(capi)
    assert [launch.device for launch in mock.launches()] == [1, 0] and (mock.retained(1), mock.depth()) == (1, 1)


@pytest.mark.parametrize(("capability", "image"), [((7, 5), 75), ((8, 0), 80), ((8, 9), 80), ((9, 0), 90), ((10, 3), 100), ((11, 0), 0),
                                                   ((12, 1), 120)])
def test_the_image_for_a_device(capi, mock, capability, image):
    mock.properties(0, capability)
    found = {}
    mock.hook(lambda launch: None)
    soft(capi)
    soft_backward(capi)
    found = images_of(mock, {launch.name for launch in mock.launches()})
    assert found and all(text.startswith(f"sm_{image} ".encode()) for text in found)


def images_of(mock, names):
    """The images that functions were loaded from, found through the mock's own list."""
    class Function(ctypes.Structure):
        pass
    Function._fields_ = [("next", ctypes.POINTER(Function)), ("module", ctypes.c_void_p), ("name", ctypes.c_char_p)]
    mock.library.mock_functions.restype = ctypes.POINTER(Function)
    at, found = mock.library.mock_functions(), []
    while at:
        if at.contents.name.decode() in names:
            found.append(mock.image(ctypes.addressof(at.contents)))
        at = at.contents.next
    return found


def test_where_a_cubin_is_refused_the_driver_compiles_ptx(capi, mock):
    mock.fail("cuModuleLoadData", 209)
    soft(capi)
    assert images_of(mock, {mock.launches()[0].name})[0].startswith(b"sm_0 ")


def test_where_no_image_is_taken_the_message_names_driver_and_device(capi, mock):
    mock.properties(0, (11, 0))
    mock.fail("cuModuleLoadData", 222)
    with pytest.raises(RuntimeError, match=r"cuModuleLoadData: CUDA_ERROR_UNSUPPORTED_PTX_VERSION \(222\): .*; the driver supports CUDA 13.0, "
                                           r"device 0 \(Mock GPU 0\) has compute capability 11.0"):
        soft(capi)
    soft(capi)


# ---------------------------------------------------------------- memory

def test_memory_is_given_back_whatever_fails(capi, mock):
    for function, code in (("cuMemAllocAsync", 2), ("cuMemAlloc_v2", 2), ("cuStreamCreate", 2), ("cuMemcpyHtoDAsync_v2", 700),
                           ("cuStreamSynchronize", 700), ("cuLaunchKernel", 701), ("cuModuleGetFunction", 500), ("cuModuleLoadData", 2),
                           ("cuStreamIsCapturing", 400)):
        for after in (0, 1):
            mock.fail(function, code, after)
            with contextlib.suppress(MemoryError, RuntimeError):
                soft_backward(capi)
            mock.fail(function, 0)
    before = mock.live(), mock.calls("cuMemAllocAsync") - mock.calls("cuMemFreeAsync")
    mock.fail("cuLaunchKernel", 701, 1)
    with pytest.raises(RuntimeError, match="cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"):
        soft_backward(capi)
    arrays = len(capi.pairs)
    assert mock.calls("cuMemAllocAsync") - mock.calls("cuMemFreeAsync") == before[1]
    assert mock.live() - before[0] == arrays
    assert mock.depth() == 0 and mock.library.mock_mode() == 0


@pytest.mark.parametrize("function", BLOCKS)
def test_out_of_memory(capi, mock, function):
    mock.fail(function, 2)
    with pytest.raises(MemoryError, match=r"CUDA_ERROR_OUT_OF_MEMORY \(2\): out of memory"):
        soft_backward(capi)
    soft_backward(capi)


def test_a_device_without_memory_in_a_streams_order(capi, mock):
    mock.fail("cuMemAllocAsync", 801)
    with pytest.raises(RuntimeError, match="params.workspace must be given"):
        soft_backward(capi)


def test_with_a_workspace_nothing_is_allocated(capi, mock):
    needed = capi.ffi.new("size_t *")
    capi.settings = {"workspace_needed": needed}
    soft_backward(capi)
    memory = mock.allocate(needed[0])
    capi.settings = {"workspace": capi.ffi.cast("void *", memory), "workspace_size": needed[0]}
    soft_backward(capi)
    assert mock.calls("cuMemAllocAsync") == 0
    work = {int(launch.parameters[at.HEAD + at.RECORD * at.WORK]) for launch in mock.launches()}
    assert len(work) == 1 and memory <= work.pop() < memory + needed[0]
    capi.settings["workspace_size"] = needed[0] - 1
    with pytest.raises(BufferError, match="workspace_size is too small"):
        soft_backward(capi)


def test_tables_are_kept_and_those_of_drawn_windows_are_not(capi, mock):
    for _ in range(3):
        soft(capi)
    assert mock.calls("cuMemAlloc_v2") == 1 and mock.calls("cuStreamSynchronize") == 1
    for seed in range(3):
        capi.forward("fractional_max_pool2d", X, 2, output_size=2, seed=seed)
    assert mock.calls("cuMemAlloc_v2") == 1 and mock.calls("cuMemAllocAsync") == mock.calls("cuMemFreeAsync") == 3


# ---------------------------------------------------------------- streams and graphs

def test_work_goes_to_the_callers_stream_and_nothing_waits(capi, mock):
    soft_backward(capi)
    waits = mock.calls("cuStreamSynchronize")
    stream = mock.stream()
    capi.settings = {"stream": capi.ffi.cast("void *", stream)}
    mock.clear()
    soft_backward(capi)
    capi.backward("gem_pool2d", np.ones((1, 4, 2, 3), np.float32), X, 2, learns=["p"])
    assert {launch.stream for launch in mock.launches()} == {stream}
    assert mock.calls("cuCtxSynchronize") == mock.calls("cuMemcpyDtoH_v2") == 0
    assert mock.calls("cuStreamSynchronize") == waits + 1  # the table of another call, on a stream of the library's own


def test_a_call_that_is_known_can_be_captured(capi, mock):
    stream = mock.stream()
    capi.settings = {"stream": capi.ffi.cast("void *", stream)}
    soft_backward(capi)
    mock.clear()
    mock.capture(stream)
    soft_backward(capi)
    assert [launch.captured for launch in mock.launches()] == [True, True]
    with pytest.raises(RuntimeError, match="make the same call before the capture"):
        capi.forward("soft_pool2d", X, 3)
    with pytest.raises(RuntimeError, match="cannot be captured into a graph"):
        capi.forward("fractional_max_pool2d", X, 2, output_size=2)
    assert mock.capture(stream, 0) == 1  # which these calls have not broken
    capi.forward("soft_pool2d", X, 3)


# ---------------------------------------------------------------- threads and forks

def test_threads_that_begin_at_once(capi, mock):
    calls = [capi.caller("numbapool_soft_pool", {"x": X, "y": np.zeros((1, 4, 2, 3), np.float32)}, capi.bound("soft_pool2d", X, (2,), {})[2].p)
             for _ in range(8)]
    begin, found = threading.Barrier(8), []

    def go(call):
        begin.wait()
        found.extend(call() for _ in range(20))
    threads = [threading.Thread(target=go, args=(call,)) for call in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [0] * 160 and len(mock.launches()) == 160
    assert (mock.calls("cuInit"), mock.calls("cuModuleLoadData"), mock.retained(0), mock.calls("cuMemAlloc_v2")) == (1, 1, 1, 1)


def in_a_child(call) -> str:
    """What a call raises in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            call()
            os.write(write, b"nothing")
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning", "ignore:os.fork:RuntimeWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_child_after_fork(capi, mock):
    name, tensors, params = capi.bound("soft_pool2d", X, (2,), {})
    call = capi.caller(name, {"x": X, "y": np.zeros((1, 4, 2, 3), np.float32)}, params.p)
    assert in_a_child(lambda: capi.check(call())) == "nothing"  # its parent has not begun
    soft(capi)
    assert "RuntimeError: numbapool_soft_pool: CUDA was initialised before this process was forked" in in_a_child(lambda: capi.check(call()))
    soft(capi)


# ---------------------------------------------------------------- parameters

def test_parameters_are_where_they_are_read(capi):
    weight = np.array([0.5, -1.0, 0.25])
    capi.forward("sort_pool2d", X, weight)
    capi.backward("sort_pool2d", np.ones((1, 4, 2, 3), np.float32), X, weight, learns=["weight"])
    with pytest.raises(ValueError, match=r"weight must have shape \(pool_range,\) or \(4, pool_range\)"):
        capi.forward("sort_pool2d", X, np.ones((2, 3)))
    capi.forward("stochastic_pool2d", X, 2, samples=np.full((1, 4, 2, 3), 0.5))
    with pytest.raises(ValueError, match="p must be above 0"):
        capi.forward("gem_pool2d", X, 2, p=-1.0)


def test_a_program_compiled_with_the_first_header(capi):
    p = capi.ffi.new("numbapool_params *")
    size = capi.ffi.offsetof("numbapool_params", "stream")
    p.stream = capi.ffi.cast("void *", 77)
    capi.check(capi.lib.numbapool_params_init(p, size))
    assert p.size == size and p.rank == 2 and int(capi.ffi.cast("intptr_t", p.stream)) == 77
    p.kernel_size = [2, 2, 0]
    capi.call("numbapool_soft_pool", {"x": X, "y": np.zeros((1, 4, 2, 3), np.float32)}, p)
    with pytest.raises(ValueError, match="size must be"):
        capi.check(capi.lib.numbapool_params_init(p, size + 4))


# ---------------------------------------------------------------- images

@pytest.fixture(scope="module")
def unpack(tmp_path_factory, library):
    """cuda_unpack, by itself."""
    made = tmp_path_factory.mktemp("unpack") / "unpack.so"
    flags = [f for f in build.FLAGS if "visibility" not in f]
    build.run(*mock_cuda.compiler(), *flags, "-shared", *build.c_flags(library.parent), build.HERE / "src" / "cuda_unpack.c", "-o", made)
    function = ctypes.CDLL(str(made)).cuda_unpack
    function.restype, function.argtypes = ctypes.c_bool, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    return function


def test_images_are_unpacked(unpack):
    rng = np.random.default_rng(0)
    for data in (b"a", b"ab" * 5000, rng.bytes(70000), bytes(rng.integers(0, 4, 300000, np.uint8)), Path(build.__file__).read_bytes() * 3,
                 Path(sys.executable).read_bytes()[:400000]):
        packed = cuda_images.pack((b"",) * 5 + (data,))
        size = int(np.frombuffer(packed[56:64], np.uint64)[0])
        out = ctypes.create_string_buffer(len(data))
        assert unpack(packed[64:], size, out, len(data)) and out.raw == data
        for cut in (size // 2, 5, 4, 0):
            unpack(packed[64:], cut, out, len(data))
        for _ in range(50):  # whatever comes out, nothing else is written
            damaged = bytearray(packed[64:64 + size])
            damaged[rng.integers(size)] ^= int(rng.integers(1, 255))
            unpack(bytes(damaged), size, out, len(data))


def test_a_real_image(tmp_path, unpack):
    """The few kernels are compiled, and unpacked in C: cubins of two architectures and PTX, with the kernels' names."""
    pytest.importorskip("numbapool.cuda.intrinsics", reason="numba-cuda is not installed", exc_type=ImportError)
    files = cuda_images.compile_modules(cuda.modules(cuda.few()), tmp_path, 1, cuda.FEW_ARCHITECTURES)
    for name, entries in cuda.modules(cuda.few()).items():
        packed = files[name].read_bytes()
        sizes = np.frombuffer(packed[:64], np.uint64).astype(int)
        assert (sizes[[2, 4, 5, 7]] > 1000).all() and not sizes[[0, 1, 3]].any()
        out = ctypes.create_string_buffer(int(sizes[:6].sum()))
        assert unpack(packed[64:], int(sizes[7]), out, len(out))
        hopper, blackwell, ptx = np.split(np.frombuffer(out.raw, np.uint8), np.cumsum(sizes[[2, 4]]))
        for image, magic in ((hopper, b"\x7fELF"), (blackwell, b"\x7fELF"), (ptx, b".version")):
            text = image.tobytes()
            assert text.startswith(magic) and all(e.made().name.encode() in text for e in entries)
