"""The layer over the CUDA driver, with a mock in its place: what reaches the driver, and what its refusals turn into."""
from __future__ import annotations

import ctypes.util
import functools
import gc
import os
import pickle
import threading
import time
import weakref

import children
import mock_cuda
import numpy as np
import pytest
from mock_cuda import Mock

from numbapool.cuda import driver
from numbapool.cuda.driver import CudaError, Launch, OutOfMemory

pytestmark = pytest.mark.skipif(not mock_cuda.available(), reason="no C compiler for the mock driver")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

IMAGE = b"// PTX of kernel_a and kernel_b"
NAME = "kernel_a"
start, child = (functools.partial(f, module="test_cuda_driver") for f in (children.start, children.child))


@pytest.fixture
def mock():
    with Mock() as mock:
        yield mock


def ready(device: int = 0, count: int = 4) -> tuple[driver.Driver, int, Launch]:
    """The driver, a kernel, and its arguments."""
    d = driver.driver()
    return d, d.load(IMAGE, NAME, device), Launch(d, count)


def in_threads(*runs) -> None:
    """Run functions at once; the first error is raised."""
    errors, together = [], threading.Barrier(len(runs))

    def call(run):
        try:
            together.wait()
            run()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=call, args=[run]) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@pytest.fixture
def slow(monkeypatch):
    """Makes the driver dawdle after a call of a function, so that other threads arrive in the meantime."""
    def at(slow_one: str) -> None:
        def dawdle(self, name, *args):
            do(self, name, *args)
            if name == slow_one:
                time.sleep(0.02)
        do = driver.Driver._do
        monkeypatch.setattr(driver.Driver, "_do", dawdle)
    return at


# ---------------------------------------------------------------- loading

def test_it_is_loaded_once(mock, slow):
    found = []
    slow("cuInit")
    in_threads(*[lambda: found.append(driver.driver())] * 8)
    assert len(found) == 8
    assert set(found) == {driver.driver()}
    assert mock.calls("cuInit") == 1
    assert driver.driver().version == 13000


def test_without_a_driver(monkeypatch, mock):
    monkeypatch.setenv("NUMBAPOOL_LIBCUDA", "/nowhere/libcuda.so.1")
    with pytest.raises(CudaError, match=r"^no CUDA driver: /nowhere/libcuda.so.1 cannot be loaded \(.*No such file") as caught:
        driver.driver()
    assert caught.value.code == 0
    monkeypatch.setenv("NUMBAPOOL_LIBCUDA", str(mock.path))
    assert driver.driver().devices() == 2  # a failure is not kept


def test_the_driver_of_the_system(monkeypatch):
    """Whatever there is, a driver or none, it is looked for under the system's name."""
    opened = []
    monkeypatch.delenv("NUMBAPOOL_LIBCUDA", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or ctypes.PyDLL("/nowhere"))
    driver.forget()
    with pytest.raises(CudaError, match="no CUDA driver: "):
        driver.driver()
    assert opened == ["nvcuda.dll" if os.name == "nt" else "libcuda.so.1"]


def test_a_library_that_is_no_driver(monkeypatch, mock):
    other = ctypes.util.find_library("c")
    monkeypatch.setenv("NUMBAPOOL_LIBCUDA", other)
    with pytest.raises(CudaError, match=f"^{other} is no CUDA driver: it has no function cuDriverGetVersion$"):
        driver.driver()


def test_an_old_driver():
    with (Mock(version=10020) as mock, pytest.raises(CudaError, match=r"^the CUDA driver is too old: it supports CUDA 10\.2, and 11\.0 is needed$")):
        driver.driver()
    assert mock.calls("cuInit") == 0
    with Mock(version=11000):
        assert driver.driver().version == 11000


def test_an_old_driver_need_not_have_every_function(monkeypatch):
    monkeypatch.setitem(driver._FUNCTIONS, "cuNever", ())
    with Mock(version=9020), pytest.raises(CudaError, match=r"supports CUDA 9\.2"):
        driver.driver()
    with Mock(), pytest.raises(CudaError, match="is no CUDA driver: it has no function cuNever$"):
        driver.driver()


def test_without_a_device():
    for mock in Mock(init=100), Mock(devices=0):
        with mock, pytest.raises(CudaError, match=r"^cuInit: CUDA_ERROR_NO_DEVICE \(100\): no CUDA-capable device is detected$") as caught:
            driver.driver()
        assert caught.value.code == 100
    with mock:
        mock.library.mock_set_devices(1)
        assert driver.driver().devices() == 1


# ---------------------------------------------------------------- errors

def test_errors(mock):
    d = driver.driver()
    error = d.error("cuMemAlloc_v2", 2)
    assert type(error) is OutOfMemory
    assert isinstance(error, CudaError)
    assert isinstance(error, MemoryError)
    assert str(error) == "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"
    error = d.error("cuLaunchKernel", 700)
    assert type(error) is CudaError
    assert not isinstance(error, MemoryError)
    assert (str(error), error.code) == ("cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered", 700)
    assert str(d.error("cuInit", 4321)) == "cuInit: unknown error 4321"


@pytest.mark.parametrize("kind", [CudaError, OutOfMemory])
def test_errors_travel_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("words", 2)))
    assert (type(error), str(error), error.code) == (kind, "words", 2)


# ---------------------------------------------------------------- devices

def test_devices(mock):
    mock.properties(1, (7, 5), 40)
    d = driver.driver()
    for _ in range(3):
        assert [d.capability(i) for i in range(d.devices())] == [(9, 0), (7, 5)]
        assert [d.processors(i) for i in range(d.devices())] == [132, 40]
    assert mock.calls("cuDeviceGetAttribute") == 6  # and then no more
    assert [d.name(i) for i in (0, 1)] == ["Mock GPU 0", "Mock GPU 1"]


@pytest.mark.parametrize("device", [2, -1])
def test_no_such_device(mock, device):
    d = driver.driver()
    for ask in d.name, d.capability, d.processors, d.on, lambda i: d.load(IMAGE, NAME, i), lambda i: d.table(np.zeros(3), i):
        with pytest.raises(CudaError, match=r"^cuDeviceGet: CUDA_ERROR_INVALID_DEVICE \(101\): invalid device ordinal$"):
            ask(device)
    assert (mock.depth(), mock.live()) == (0, 0)


def device_of_thread() -> int | None:
    """The current device, as the driver sees it."""
    device = ctypes.c_int()
    code = ctypes.CDLL(os.environ["NUMBAPOOL_LIBCUDA"]).cuCtxGetDevice(ctypes.byref(device))
    return None if code == 201 else device.value


def test_on_a_device(mock):
    d = driver.driver()
    with d.on(1):
        assert (device_of_thread(), mock.depth()) == (1, 1)
        with d.on(0):
            assert (device_of_thread(), mock.depth()) == (0, 2)
            with d.on(0):
                assert (device_of_thread(), mock.depth()) == (0, 2)
            with d.on(1):
                assert (device_of_thread(), mock.depth()) == (1, 3)
        assert (device_of_thread(), mock.depth()) == (1, 1)
    assert (device_of_thread(), mock.depth()) == (None, 0)
    assert mock.calls("cuCtxPushCurrent_v2") == mock.calls("cuCtxPopCurrent_v2") == 3
    assert (mock.retained(0), mock.retained(1)) == (1, 1)


def test_on_the_current_device_nothing_is_pushed(mock):
    d = driver.driver()
    mock.current(1)  # somebody else's choice
    with d.on(1):
        assert device_of_thread() == 1
    assert mock.calls("cuCtxPushCurrent_v2") == mock.calls("cuCtxPopCurrent_v2") == 0
    with d.on(0):
        assert device_of_thread() == 0
    assert (device_of_thread(), mock.depth()) == (1, 1)


def test_a_device_is_left_on_errors(mock):
    d = driver.driver()
    with pytest.raises(KeyError), d.on(1):
        raise KeyError
    assert mock.depth() == 0
    for name in "cuCtxGetCurrent", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2":
        mock.fail(name, 201)
        with pytest.raises(CudaError, match=rf"^{name.removesuffix('_v2')}: CUDA_ERROR_INVALID_CONTEXT"), d.on(1):
            pass


def test_a_device_is_prepared_once_for_many_threads(mock, slow):
    d = driver.driver()
    slow("cuDevicePrimaryCtxRetain")
    in_threads(*[lambda: d.on(0)] * 8)
    assert mock.retained(0) == 1
    slow("cuStreamCreate")
    in_threads(*[lambda: d.table(np.zeros(3), 0)] * 8)
    assert mock.calls("cuStreamCreate") == 1


# ---------------------------------------------------------------- kernels

def test_load(mock):
    d = driver.driver()
    a, b = d.load(IMAGE, NAME, 0), d.load(IMAGE, "kernel_b", 1)
    assert a != b
    assert (mock.image(a), mock.depth()) == (IMAGE, 0)
    with pytest.raises(CudaError, match=r"^cuModuleGetFunction: CUDA_ERROR_NOT_FOUND \(500\): named symbol not found$"):
        d.load(IMAGE, "kernel_c", 0)
    with pytest.raises(CudaError, match=r"^cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE"):
        d.load(b"", NAME, 0)
    assert mock.depth() == 0


def test_load_a_binary(mock):
    """Zeros do not end it."""
    image = mock_cuda.build().read_bytes()  # ELF, as a cubin is
    assert mock.image(driver.driver().load(image, "cuInit", 0)) == image


@pytest.mark.parametrize(("code", "name"), [(209, "NO_BINARY_FOR_GPU"), (218, "INVALID_PTX"), (222, "UNSUPPORTED_PTX_VERSION")])
def test_an_image_for_others(mock, code, name):
    mock.properties(1, (7, 5))
    mock.fail("cuModuleLoadData", code)
    with pytest.raises(CudaError, match=rf"^cuModuleLoadData: CUDA_ERROR_{name} \({code}\): .*; the driver supports CUDA 13\.0, "
                                        r"device 1 \(Mock GPU 1\) has compute capability 7\.5$") as caught:
        driver.driver().load(IMAGE, NAME, 1)
    assert caught.value.code == code
    assert mock.depth() == mock.library.mock_mode() == 0


def test_a_launch_arrives(mock):
    d, function, launch = ready(count=5)
    stream = mock.stream()
    launch.words[:4] = -1, 2**63 - 1, -2**63, 0x7F00_1234_5678_9ABC
    launch.words.view(np.float64)[4] = -0.1
    with d.on(0):
        launch.go(function, 2**31 - 1, 65535, 65534, 1024, stream)
    (made,) = mock.launches()
    assert made[:4] == (NAME, (2**31 - 1, 65535, 65534), 1024, stream)
    assert (made.device, made.captured) == (0, False)
    assert made.parameters.tolist() == [-1, 2**63 - 1, -2**63, 0x7F00_1234_5678_9ABC, np.float64(-0.1).view(np.int64)]


def test_arguments_are_copied_by_each_launch(mock):
    d, function, launch = ready(count=1)
    with d.on(0):
        for word in range(5):
            launch.words[0] = word
            launch.go(function, 1 + word, 1, 1, 32, word % 3)
    assert [(made.parameters.tolist(), made.grid, made.stream) for made in mock.launches()] == [([i], (1 + i, 1, 1), i % 3) for i in range(5)]


def test_launch_from_anywhere(mock):
    d, function, _ = ready()
    words = np.arange(-3, 3)
    with d.on(0):
        d.launch(function, (3, 2, 1), 64, words[1:].ctypes.data, 16, 0)
    (made,) = mock.launches()
    assert (made.grid, made.block, made.parameters.tolist()) == ((3, 2, 1), 64, [-2, -1])
    with pytest.raises(CudaError, match="cuLaunchKernel: CUDA_ERROR_INVALID_CONTEXT"):
        d.launch(function, (3, 2, 1), 64, words.ctypes.data, 16, 0)


def test_the_hook_is_the_kernel(mock):
    d, function, launch = ready(count=2)
    address = mock.allocate(20)
    assert np.isnan(mock.view(address, 5)).all()

    def kernel(made):
        assert made.name == NAME
        mock.view(int(made.parameters[0]), 5)[:] = made.parameters[1:].view(np.float64)[0]
    mock.hook(kernel)
    launch.words[0] = address
    launch.words.view(np.float64)[1] = 2.5
    with d.on(0):
        launch.go(function, 1, 1, 1, 32, 0)
    assert (mock.view(address, 5) == 2.5).all()
    mock.release(address)
    assert mock.live() == 0


def test_a_launch_needs_its_device(mock):
    d, function, launch = ready(device=0)
    with pytest.raises(CudaError, match="^cuLaunchKernel: CUDA_ERROR_INVALID_CONTEXT"):
        launch.go(function, 1, 1, 1, 32, 0)
    with d.on(1), pytest.raises(CudaError, match="^cuLaunchKernel: CUDA_ERROR_INVALID_HANDLE"):
        launch.go(function, 1, 1, 1, 32, 0)
    with d.on(0), pytest.raises(CudaError, match="^cuLaunchKernel: CUDA_ERROR_INVALID_HANDLE"):
        launch.go(function, 1, 1, 1, 32, mock.stream(1))
    assert not mock.launches()
    with d.on(0):
        launch.go(function, 1, 1, 1, 32, mock.stream(0))
    assert len(mock.launches()) == 1


@pytest.mark.parametrize("sizes", [(0, 1, 1, 32), (2**31, 1, 1, 32), (1, 65536, 1, 32), (1, 1, 65536, 32), (1, 1, 1, 0), (1, 1, 1, 1025)])
def test_a_grid_that_is_none(mock, sizes):
    d, function, launch = ready()
    with d.on(0), pytest.raises(CudaError, match=r"^cuLaunchKernel: CUDA_ERROR_INVALID_VALUE \(1\): invalid argument$"):
        launch.go(function, *sizes, 0)
    assert mock.depth() == 0


def test_a_launch_that_fails(mock):
    d, function, launch = ready()
    mock.fail("cuLaunchKernel", 701, after=2)
    with d.on(0):
        for _ in range(2):
            launch.go(function, 1, 1, 1, 32, 0)
    with pytest.raises(CudaError, match=r"^cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES \(701\): too many resources") as caught, d.on(0):
        launch.go(function, 1, 1, 1, 32, 0)
    assert (caught.value.code, mock.depth(), len(mock.launches())) == (701, 0, 2)
    mock.fail("cuLaunchKernel", 2)
    with pytest.raises(MemoryError), d.on(0):
        launch.go(function, 1, 1, 1, 32, 0)
    assert mock.depth() == 0


def test_two_threads_on_two_devices(mock):
    rounds, (d, first, _) = 200, ready(0)
    functions = [first, d.load(IMAGE, "kernel_b", 1)]
    streams = [mock.stream(0), mock.stream(1)]

    def run(device):
        launch = Launch(d, 2)
        for i in range(rounds):
            launch.words[:] = device, i
            with d.on(device):
                launch.go(functions[device], 1, 1, 1, 32, streams[device])
            table = d.table(launch.words, device)
            np.testing.assert_array_equal(mock.view(table.address, 2, np.int64), [device, i])
        assert mock.depth() == 0
    in_threads(*[functools.partial(run, i % 2) for i in range(4)])
    made = mock.launches()
    assert len(made) == 4 * rounds
    for each in made:
        device = int(each.parameters[0])
        assert (each.name, each.device, each.stream) == ((NAME, "kernel_b")[device], device, streams[device])
    assert (mock.retained(0), mock.retained(1), mock.calls("cuStreamCreate")) == (1, 1, 2)
    gc.collect()
    assert mock.live() == 0


# ---------------------------------------------------------------- memory

def test_memset(mock):
    d = driver.driver()
    address, stream, other = mock.allocate(7), mock.stream(), mock.stream()
    with d.on(0):
        d.memset(address + 1, 5, stream)
        d.memset(address, 0, stream)
        d.synchronize(other)
        assert mock.view(address, 7, np.uint8).tolist() == [255] * 7
        d.synchronize(stream)
    assert mock.calls("cuMemsetD8Async") == 1
    assert mock.view(address, 7, np.uint8).tolist() == [255, 0, 0, 0, 0, 0, 255]
    with pytest.raises(CudaError, match="^cuMemsetD8Async: CUDA_ERROR_INVALID_CONTEXT"):
        d.memset(address, 5, stream)
    with pytest.raises(CudaError, match="^cuStreamSynchronize: CUDA_ERROR_INVALID_CONTEXT"):
        d.synchronize(stream)


def test_a_table(mock):
    d = driver.driver()
    data = np.arange(24, dtype=np.int64).reshape(4, 6)
    for values in data, data[::-2, ::3], data.T, np.asfortranarray(data), np.float64(2.5), data[:0], data.astype(np.uint8)[:, :5]:
        before = np.array(values)
        table = d.table(values, 1)
        np.testing.assert_array_equal(mock.view(table.address, before.shape, before.dtype), before)
        assert (table.size, table.device) == (before.nbytes, 1)
        device = ctypes.c_int()
        assert not mock.library.cuPointerGetAttribute(ctypes.byref(device), 9, ctypes.c_uint64(table.address))
        assert device.value == 1
    assert (mock.depth(), mock.live()) == (0, 1)


def test_a_table_is_there_at_once_and_waits_for_nobody(mock):
    """The caller's work may take long, and any stream may read the table next."""
    d = driver.driver()
    address, tables = mock.allocate(8), []  # which are kept, as freeing one waits for the whole device
    for stream in 0, 2, mock.stream(), mock.stream(blocking=True):
        with d.on(0):
            d.memset(address, 8, stream)
            tables.append(d.table(np.arange(3.0), 0, stream))
        assert mock.view(tables[-1].address, 3, np.float64).tolist() == [0, 1, 2]
        assert np.isnan(mock.view(address, 2)).all()
        mock.settle()
        assert not mock.view(address, 2).any()
        mock.view(address, 2)[:] = np.nan
    assert mock.calls("cuStreamCreate") == 1


def test_a_table_is_freed_when_it_is_collected(mock):
    d = driver.driver()
    tables = [d.table(np.arange(5), device) for device in (0, 1, 1)]
    assert mock.live() == 3
    with d.on(1):  # another device than the first one's
        del tables[0]
        assert (mock.live(), mock.depth(), device_of_thread()) == (2, 1, 1)
    cycle = [tables.pop()]
    cycle.append(cycle)
    del cycle
    assert mock.live() == 2
    gc.collect()
    assert mock.live() == 1
    in_threads(tables.clear)  # a thread that had no context yet
    assert (mock.live(), mock.depth()) == (0, 0)
    assert mock.calls("cuCtxPushCurrent_v2") == mock.calls("cuCtxPopCurrent_v2")


def test_a_table_without_room(mock):
    mock.fail("cuMemAlloc_v2", 2)
    with pytest.raises(MemoryError, match=r"^cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY \(2\): out of memory$"):
        driver.driver().table(np.zeros(3), 0)
    assert mock.depth() == mock.library.mock_mode() == mock.live() == 0


@pytest.mark.parametrize("name", ["cuMemcpyHtoDAsync_v2", "cuStreamSynchronize", "cuStreamCreate"])
def test_a_table_that_fails_leaves_nothing(mock, name):
    d = driver.driver()
    mock.fail(name, 719)
    with pytest.raises(CudaError, match=f"^{name.removesuffix('_v2')}: CUDA_ERROR_LAUNCH_FAILED"):
        d.table(np.zeros(3), 0)
    gc.collect()
    assert mock.depth() == mock.library.mock_mode() == mock.live() == 0
    assert mock.view(d.table(np.ones(1), 0).address, 1, np.float64) == 1


@pytest.mark.parametrize("name", ["cuMemFree_v2", "cuCtxPushCurrent_v2", "cuCtxGetCurrent", "cuThreadExchangeStreamCaptureMode"])
def test_a_table_that_cannot_be_freed(mock, name):
    """A collection raises nothing, which pytest would report."""
    table = driver.driver().table(np.zeros(3), 0)
    mock.fail(name, 719)
    del table
    assert (mock.live(), mock.depth(), mock.library.mock_mode()) == (1, 0, 0)


def test_tables_outlive_the_driver(mock):
    table = driver.driver().table(np.zeros(3), 0)
    driver.forget()
    assert driver.driver() is not None
    del table
    assert mock.live() == 0


# ---------------------------------------------------------------- graphs

def test_capturing(mock):
    d = driver.driver()
    streams = [mock.stream(), mock.stream(blocking=True)]
    with d.on(0):
        assert not any(map(d.capturing, [0, 1, 2, *streams]))
        mock.capture(streams[0])
        assert list(map(d.capturing, [0, 1, 2, *streams])) == [False, False, False, True, False]
        mock.capture(streams[1])
        assert list(map(d.capturing, [0, 1, 2, *streams])) == [True, True, False, True, True]
        assert mock.capture(streams[0], 2) == 1
        assert d.capturing(streams[0])
        mock.fail("cuStreamIsCapturing", 400)
        with pytest.raises(CudaError, match="^cuStreamIsCapturing: CUDA_ERROR_INVALID_HANDLE"):
            d.capturing(streams[0])


@pytest.mark.parametrize("blocking", [False, True])
def test_no_table_while_its_stream_is_captured(mock, blocking):
    d, stream = driver.driver(), mock.stream(1, blocking)
    mock.capture(stream)
    refusal = "^a table cannot be made while the stream is captured into a graph; make the same call before the capture$"
    for reader in (stream, 0) if blocking else (stream,):
        with pytest.raises(CudaError, match=refusal):
            d.table(np.zeros(3), 1, reader)
    assert (mock.live(), mock.depth()) == (0, 0)
    assert mock.capture(stream, 0) == 1  # unbroken


@pytest.mark.parametrize("blocking", [False, True])
def test_a_capture_of_others_is_left_alone(mock, blocking):
    """Also by the garbage collector, which comes whenever it likes."""
    d, function, launch = ready()
    stream, free, old = mock.stream(blocking=blocking), mock.stream(), d.table(np.zeros(3), 0)
    seen = []
    mock.hook(seen.append)
    mock.capture(stream)
    with d.on(0):
        launch.go(function, 1, 1, 1, 32, stream)
    assert not seen  # it is part of the graph and does not run
    del old
    d.load(IMAGE, "kernel_b", 0)
    table = d.table(np.arange(3), 0, free)
    assert mock.view(table.address, 3, np.int64).tolist() == [0, 1, 2]
    del table
    assert mock.live() == 0
    assert mock.capture(stream, 0) == 1
    assert [made.captured for made in mock.launches()] == [True]
    assert mock.library.mock_mode() == 0


# ---------------------------------------------------------------- forks and the end of a process

def told(run) -> str:
    """What a function raises in a forked child, or what it returns."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(run())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:
        text = answer.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def fork_with_cuda() -> None:
    with Mock() as mock:
        d, function, launch = ready()
        tables = [d.table(np.zeros(3), 0)]
        refused = f"CudaError: {driver.FORKED}"
        for run in (driver.driver, lambda: d.on(0), lambda: d.on(1), lambda: launch.go(function, 1, 1, 1, 32, 0), lambda: d.name(0),
                    lambda: d.load(IMAGE, NAME, 0), lambda: told(driver.driver)):
            assert told(run) == refused, (told(run), run)
        frees = mock.calls("cuMemFree_v2")
        assert told(lambda: (tables.clear(), gc.collect(), mock.calls("cuMemFree_v2") - frees)[-1]) == "0"
        assert driver.driver() is d
        assert mock.live() == 1
        with d.on(0):
            launch.go(function, 1, 1, 1, 32, 0)
        assert len(mock.launches()) == 1


def fork_before_cuda() -> None:
    with Mock() as mock:
        assert told(lambda: driver.driver().devices()) == "2"
        mock.library.mock_set_init(100)
        with pytest.raises(CudaError):
            driver.driver()
        mock.library.mock_set_init(0)
        assert told(lambda: driver.driver().devices()) == "2"  # a driver that did not start does no harm
        with driver._lock:  # another thread is about to load it
            assert told(lambda: driver.driver().devices()) == "2"


def fork_while_loading() -> None:
    with Mock():
        told_then, inside = [], driver.Driver._do

        def do(self, name, *args):
            inside(self, name, *args)
            if name == "cuInit":
                told_then.append(told(driver.driver))
        driver.Driver._do = do
        driver.driver()
        assert told_then == [f"CudaError: {driver.FORKED}"]


@posix
def test_fork():
    child("fork_with_cuda(); fork_before_cuda(); fork_while_loading()")


def live_to_the_end() -> None:
    """Tables that are alive when the interpreter goes, one of them in a cycle of a module's."""
    import atexit
    mock = Mock().__enter__()
    atexit.register(lambda: print(f"freed {mock.calls('cuMemFree_v2')}"))  # after the finalizers, as it was there before them
    d = driver.driver()
    driver.kept = [d.table(np.zeros(3), 0)]
    driver.kept.append(driver.kept)
    driver.finalizer = weakref.finalize(driver.kept[0], print, "collected")
    driver.finalizer.atexit = False


def test_the_end_of_a_process():
    process = start("live_to_the_end()")
    out, err = process.communicate(timeout=children.LIMIT)
    assert (process.returncode, out, err) == (0, "done\nfreed 0\n", "")


# ---------------------------------------------------------------- the mock itself

def test_the_mock_tells_of_wrong_memory():
    with pytest.raises(AssertionError, match="written beyond its ends"), Mock() as mock:
        mock.view(mock.allocate(8), 3)[2] = 0
    with pytest.raises(AssertionError, match="freed twice"), Mock() as mock:
        driver.driver()
        address = mock.allocate(8, 1)
        mock.current(0)
        assert mock.library.cuMemFree_v2(ctypes.c_uint64(address)) == 1
    with Mock(poison=False) as mock:
        assert not mock.view(mock.allocate(8), 2).any()


def test_the_mock_tells_of_errors_in_the_hook():
    with pytest.raises(ZeroDivisionError), Mock() as mock:
        d, function, launch = ready()
        mock.hook(lambda made: 1 / 0)
        with d.on(0):
            launch.go(function, 1, 1, 1, 32, 0)


def test_the_mock_is_gone_afterwards(monkeypatch):
    monkeypatch.setenv("NUMBAPOOL_LIBCUDA", "/nowhere")
    with Mock():
        inside = driver.driver()
        with Mock(version=12000):
            assert driver.driver().version == 12000
        assert driver.driver() is not inside
    assert os.environ["NUMBAPOOL_LIBCUDA"] == "/nowhere"
    with pytest.raises(CudaError, match="/nowhere"):
        driver.driver()
    driver.forget()


def test_the_mock_has_an_order():
    """Streams that wait for the legacy one see what was queued on it; others do not."""
    with Mock() as mock:
        d, function, launch = ready()
        address, blocking, free = mock.allocate(4), mock.stream(blocking=True), mock.stream()
        seen = []
        mock.hook(lambda made: seen.append(bool(np.isnan(mock.view(address, 1)[0]))))
        with d.on(0):
            for written, read in ((0, free), (free, 0), (blocking, free), (0, blocking), (blocking, 0), (free, free), (0, 2)):
                mock.view(address, 1)[:] = np.nan
                d.memset(address, 4, written)
                launch.go(function, 1, 1, 1, 32, read)
                mock.settle()
        assert seen == [True, True, True, False, False, False, False]
