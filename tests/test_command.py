"""The command line, in processes of its own: what users see, and the measures of the demo's table."""
import importlib.metadata
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import numbapool as nbp
from numbapool import cache, demo, files, pictures, recipes

needs_pillow = pytest.mark.skipif(not importlib.util.find_spec("PIL"), reason="pictures need Pillow")
needs_matplotlib = pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="the demo needs matplotlib's photo")


def command(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "numbapool", *map(str, arguments)], capture_output=True, encoding="utf-8",
                          env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment, check=False)


def refused(*arguments, **environment):
    """The one line that a command says before it gives up."""
    done = command(*arguments, **environment)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


def picture(path, shape=(13, 17, 3), dtype=np.uint8):
    """A file of noise; returns its array."""
    array = np.random.default_rng(len(path.name)).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    pictures.write(path, array)
    return array


def test_info():
    done = command("info")
    lines = dict(re.fullmatch(r"(\w+) +(.+)", line).groups() for line in done.stdout.splitlines())
    assert done.returncode == 0 and done.stderr == ""
    assert lines["numbapool"] == nbp.__version__ and f"numpy {np.__version__}" in lines["packages"]
    assert f"numba {importlib.metadata.version('numba')}" in lines["packages"]
    assert re.match("no CUDA driver: |driver [0-9]", lines["cuda"])
    assert lines["cache"].startswith(str(cache.folder()) if cache.folder() else "no folder") and lines["threads"] and lines["cpu"]


def test_info_imports_nothing_heavy():
    heavy = {"torch", "jax", "matplotlib", "PIL"}
    code = f"import sys; from numbapool.__main__ import main; main(['info']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_info_without_a_cache(tmp_path):
    (tmp_path / "file").touch()
    assert "no folder" in command("info", NUMBAPOOL_CACHE_DIR=str(tmp_path / "file")).stdout


def test_version_and_usage():
    assert command("--version").stdout.strip() == nbp.__version__
    assert refused() == "numbapool: the following arguments are required: demo | pool | info"
    assert "invalid choice: 'swim'" in refused("swim")


@needs_pillow
@pytest.mark.parametrize(("shape", "dtype", "mode"), [
    ((13, 17), np.uint8, "L"), ((13, 17, 3), np.uint8, "RGB"), ((13, 17, 4), np.uint8, "RGBA"), ((13, 17), np.uint16, "I;16")])
def test_max_keeps_integers(tmp_path, shape, dtype, mode):
    from PIL import Image
    x = picture(tmp_path / "in.png", shape, dtype)
    out = tmp_path / "new" / "out.png"
    done = command("pool", tmp_path / "in.png", "-o", out, "--pooling", "max", "--kernel", 3, "--stride", 2, "--padding", 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}: 9 x 7\n", "")
    expected = nbp.max_pool2d(np.atleast_3d(x), 3, 2, 1, channels_last=True)
    result = pictures.read(out)
    assert result.dtype == dtype and np.array_equal(np.atleast_3d(result), expected)
    with Image.open(out) as file:
        assert file.mode == mode


@needs_pillow
@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_soft_rounds_back(tmp_path, dtype, most):
    x = picture(tmp_path / "in.png", (13, 17), dtype)
    assert command("pool", tmp_path / "in.png", "-o", tmp_path / "out.png").returncode == 0
    y = nbp.soft_pool2d(x[None].astype(np.float32) / np.float32(most), 2)[0]
    result = pictures.read(tmp_path / "out.png")
    assert result.dtype == dtype and np.array_equal(result, np.rint(y * most))


@needs_pillow
def test_seed_and_several_files(tmp_path):
    inputs = [tmp_path / name for name in ("one.png", "three.bmp")]
    arrays = [picture(path) for path in inputs]
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert command("pool", *inputs, "-o", tmp_path / folder, "--pooling", "stochastic", "--seed", seed).returncode == 0
    for path, x in zip(inputs, arrays, strict=True):
        a, b, c = (pictures.read(tmp_path / folder / path.name) for folder in "abc")
        y = nbp.stochastic_pool2d(pictures.to_planes(x).astype(np.float32) / np.float32(255), 2, seed=3)
        assert np.array_equal(a, np.rint(255 * pictures.from_planes(y))) and np.array_equal(a, b) and not np.array_equal(a, c)


@needs_pillow
def test_refusals(tmp_path):
    picture(tmp_path / "in.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:200])
    (tmp_path / "sub").mkdir()
    picture(tmp_path / "sub" / "in.png")
    before = (tmp_path / "in.png").read_bytes()
    given, out = tmp_path / "in.png", ("-o", tmp_path / "out.png")
    for words, *arguments in [
        ("no.png: no such file", tmp_path / "no.png", *out),
        ("text.png is not a picture", tmp_path / "text.png", *out),
        ("cut.png cannot be read", tmp_path / "cut.png", *out),
        ("is a folder", tmp_path, *out),
        ("'maxi' (choose from", given, *out, "--pooling", "maxi"),
        ("stochastic", given, *out, "--pooling", "maxi"),
        ("(17 x 13): soft_pool2d: ", given, *out, "--kernel", 14),
        ("a window of 14 does not fit into 13", given, *out, "--kernel", 14),
        ("padding must be at most", given, *out, "--padding", 9),
        ("max_pool2d takes no seed", given, *out, "--pooling", "max", "--seed", 1),
        ("argument --kernel: 0 is less than 1", given, *out, "--kernel", 0),
        ("argument --kernel: 'two' is not a whole number", given, *out, "--kernel", "two"),
        ("are required: -o/--output", given),
        ("not with '.mp3'", given, "-o", tmp_path / "out.mp3"),
        ("no folder can be made: ", given, "-o", given / "out.png"),
        ("is an input and would be overwritten", given, "-o", given),
        ("is an input and would be overwritten", given, "-o", tmp_path),
        ("is a file; results need a folder", given, tmp_path / "sub" / "in.png", "-o", given),
        ("two of the pictures are named in.png", given, tmp_path / "sub" / "in.png", "-o", tmp_path / "new"),
    ]:
        said = refused("pool", *arguments)
        assert words in said and said.startswith("numbapool pool: ")
    assert before == given.read_bytes() and sorted(p.name for p in tmp_path.iterdir()) == ["cut.png", "in.png", "sub", "text.png"]


def test_without_pillow(tmp_path):
    (tmp_path / "PIL.py").write_text("raise ImportError")
    said = refused("pool", "in.png", "-o", "out.png", PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]))
    assert said == "numbapool pool: pictures need Pillow: pip install 'numbapool[demo]'"


def test_without_matplotlib(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    said = refused("demo", "--output", tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]))
    assert said == "numbapool demo: the demo needs matplotlib's sample photo: pip install 'numbapool[demo]'"


@pytest.mark.parametrize("name", nbp.POOLINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_pooling_pools_a_picture(name, dtype):
    x = np.random.default_rng(1).random((18, 15, 3))
    x = x.astype(dtype) if dtype == np.float32 else (x * np.iinfo(dtype).max).astype(dtype)
    y = files.pool(x, name, 3, {})
    assert y.dtype == dtype and np.isfinite(y).all()
    if name not in ("max_unpool", "sum", "std"):
        assert y.shape == ((9, 7, 3) if name == "dpp" else (6, 5, 3)) and x.min() <= y.min() and y.max() <= x.max()


@needs_pillow
@pytest.mark.parametrize(("mode", "colour", "value", "dtype"), [
    ("1", 1, [255], "uint8"), ("L", 7, [7], "uint8"), ("LA", (7, 9), [7, 7, 7, 9], "uint8"), ("P", 0, [0, 0, 0], "uint8"),
    ("CMYK", (0, 0, 0, 0), [255, 255, 255], "uint8"), ("I", 70000, [65535], "uint16"), ("F", 0.5, [0.5], "float32")])
def test_modes(tmp_path, mode, colour, value, dtype):
    from PIL import Image
    Image.new(mode, (6, 5), colour).save(tmp_path / "in.tif")
    x = pictures.read(tmp_path / "in.tif")
    assert x.shape == (5, 6, len(value))[:2 + (len(value) > 1)] and x.dtype == dtype and (np.atleast_3d(x) == value).all()
    pictures.write(tmp_path / "out.tif", x)
    assert np.array_equal(pictures.read(tmp_path / "out.tif"), x)


@needs_pillow
def test_pictures_are_upright(tmp_path):
    from PIL import Image
    x = np.arange(60, dtype=np.uint8).reshape(5, 12)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to see it as it was"
    Image.fromarray(x).save(tmp_path / "in.png", exif=exif)
    assert np.array_equal(pictures.read(tmp_path / "in.png"), np.rot90(x, -1))


def test_psnr():
    a = np.zeros((1, 1, 4, 4))
    assert pictures.psnr(a, a + 0.1) == pytest.approx(20) and pictures.psnr(a, a) == np.inf


def test_ssim():
    rng = np.random.default_rng(2)
    a, noise = rng.random((1, 2, 13, 15)), rng.random((1, 2, 13, 15))
    b = 0.7 * a + 0.3 * noise
    d = np.arange(11) - 5
    weights = np.exp(-(d[:, None] ** 2 + d**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for c, i, j in np.ndindex(2, 3, 5):
        p, q = a[0, c, i:i + 11, j:j + 11], b[0, c, i:i + 11, j:j + 11]
        mp, mq = (weights * p).sum(), (weights * q).sum()
        vp, vq, cov = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum(), (weights * (p - mp) * (q - mq)).sum()
        values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert pictures.ssim(a, b) == pytest.approx(np.mean(values), rel=1e-12) and pictures.ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_enlarge():
    x = np.arange(6).reshape(1, 1, 2, 3)
    assert np.array_equal(pictures.enlarge(x, (4, 6)), x.repeat(2, 2).repeat(2, 3))
    assert pictures.enlarge(x, (5, 3))[0, 0, :, 0].tolist() == [0, 0, 3, 3, 3] and np.array_equal(pictures.enlarge(x, (2, 3)), x)


def test_a_pooling_without_a_recipe_takes_its_example(monkeypatch):
    monkeypatch.delitem(recipes.RECIPES, "lip")
    x = np.random.default_rng(3).random((1, 3, 8, 8), np.float32)
    pooled, arguments = recipes.recipe("lip", x, 2)
    assert pooled is x and arguments["kernel_size"] == 2 and np.array_equal(arguments["logit"], 0 * x)


def test_a_wrong_library_is_told(monkeypatch):
    x = np.random.default_rng(4).random((1, 3, 16, 16), np.float32)
    outcome = demo.measure("soft", x, {"DLPack": demo.Exchange, "broken": lambda a: a + np.float32(1e-6)})
    assert outcome.strays == ["broken"] and type(nbp.soft_pool2d(demo.Exchange(x), 2)) is np.ndarray
    assert demo.verdict([outcome], ["DLPack", "broken"]) == ("not NumPy's results: soft through broken", False)
    assert demo.verdict([outcome._replace(strays=[])], ["DLPack"])[1]


@needs_matplotlib
def test_demo(tmp_path):
    done = command("demo", "--size", 64, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    figures = re.compile(r"\) +\d+\.\d\d +\d+\.\d\d +-?\d+\.\d\d +-?0\.\d{4}$")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if figures.search(line)}
    assert list(rows) == list(nbp.POOLINGS) and "(1, 3, 32, 27)" in rows["soft"]
    photo = demo.photograph(64)
    kept = pictures.enlarge(nbp.avg_pool2d(photo, 2), photo.shape[2:])
    assert rows["avg"].split()[-2:] == [f"{pictures.psnr(photo, kept):.2f}", f"{pictures.ssim(photo, kept):.4f}"]
    assert "NumPy's results, bit for bit." in done.stdout and "DLPack" in done.stdout
    assert [line.split() for line in done.stderr.splitlines()[1:]] == [[f"{i + 1}/{len(rows)}", n] for i, n in enumerate(nbp.POOLINGS)]
    drawn = pictures.read(tmp_path / "out" / "gallery.png")
    assert drawn.shape[1] == 1600 and (drawn[0] == 255).all() and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 500


@needs_matplotlib
def test_demo_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").touch()
    assert "no folder can be made: " in refused("demo", "--size", 32, "--output", tmp_path / "file")
    (tmp_path / "folder" / "gallery.png").mkdir(parents=True)
    done = command("demo", "--size", 32, "--output", tmp_path / "folder")
    assert done.returncode == 2 and "gallery.png cannot be written" in done.stderr.splitlines()[-1]


def test_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(demo.progress("ab", 2)) == ["a", "b"]
    said = capsys.readouterr().err
    assert said.count("\r\033[K") == 3 and "1/2 b" in said and "\n" not in said
