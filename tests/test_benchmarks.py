"""The benchmarks measure every pooling, count bytes right, and write what they say; no test looks at a time."""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from children import child

import numbapool

sys.path.insert(0, str(Path(numbapool.__file__).parents[1]))
from benchmarks import cliffs, floor, picture, rasters, report, rows, timing

TINY = [f"{name} 2x2/s2 1x8x16x16 float32 channels-first 1t" for name in ("max forward+indices", "soft backward")]
needs_compiler = pytest.mark.skipif(floor.compiler() is None, reason="the floor is compiled C")


def test_every_pooling_has_rows():
    measured = {(rows.pools()[row.pool].name, row.direction) for row in rows.default_rows()}
    assert measured >= {(name, direction) for name in numbapool.POOLINGS for direction in ("forward", "backward")}
    assert {row.ndim for row in rows.full_rows()} == {1, 2, 3}


def test_a_pooling_without_a_line_takes_its_example(monkeypatch):
    monkeypatch.setattr(rows, "POOLS", {})
    found = rows.pools()
    assert list(found) == list(numbapool.POOLINGS)
    assert found["lp"].parameters["norm_type"](np.zeros(1), None) == 2.0
    assert found["s3"].windows == {"default": rows.Window({"kernel_size": 2})}


def test_labels_name_one_row_each():
    labels = [str(row) for row in rows.full_rows()]
    assert len(set(labels)) == len(labels)
    assert "max forward 2x2/s2 8x64x112x112 float32 channels-first 1t" in labels


def test_minimal_bytes():
    """2x2/s2 of (1, 1, 4, 4) float32: x has 64 bytes, y 16, its int64 indices 32."""
    expected = {"max forward": (64, 16), "max forward+indices": (64, 48), "max backward": (16 + 64, 64), "max backward+indices": (16 + 32, 64),
                "avg backward": (16, 64), "lip forward": (128, 16), "lip backward": (16 + 128, 128)}
    for name, read_and_written in expected.items():
        pool, direction = name.split()
        assert rows.pools()[pool].bytes(direction, 16, 4, 4) == read_and_written
    assert rows.pools()["max_unpool"].bytes("forward", 4, 16, 2) == (8 + 32, 32)
    assert rows.pools()["max_unpool"].bytes("backward", 4, 16, 2) == (32 + 32, 8)


@needs_compiler
@pytest.mark.parametrize("past_cache", [0, 1])
@pytest.mark.parametrize(("read", "write"), [(0, 100), (100, 0), (1 << 20, 12345), (4097, 1 << 19)])
def test_the_floor_reads_and_writes_all_bytes(read, write, past_cache):
    source, target = floor.aligned(read), floor.aligned(write + 64)
    source[:], target[:] = 3, 77
    floor.library().run(source.ctypes.data, read, target.ctypes.data, write, 2, past_cache)
    assert not (target[:write] == 77).any()
    assert (target[write:] == 77).all()
    if read:  # the result is made of a word of each line, and of the bytes behind the last whole line
        before = floor.library().run(source.ctypes.data, read, target.ctypes.data, 0, 2, past_cache)
        source[-(read % 64 or 64)] ^= 1
        assert floor.library().run(source.ctypes.data, read, target.ctypes.data, 0, 2, past_cache) == before ^ 1


def test_turns_are_interleaved():
    order = []
    calls = {name: timing.Contender(lambda name=name: order.append(name), lambda: None) for name in "ab"}
    times = timing.interleaved(calls, 0.0)
    assert {t.turns for t in times.values()} == {timing.FEWEST}
    assert order[-6:] == list("ababab")


@needs_compiler
def test_two_rows_end_to_end(tmp_path):
    target = tmp_path / "result.json"
    command = ["--only", "|".join(map(re.escape, TINY)), "--seconds", "0.01", "--peers", "torch", "--json", str(target)]
    child(f"from benchmarks.__main__ import main; assert main({command}) == 0")
    result = json.loads(target.read_text())
    assert [row["label"] for row in result["rows"]] == TINY
    for row in result["rows"]:
        assert row["agrees"] == {"torch": True}
        assert row["times"].keys() == {"numbapool", "torch", "floor"}
    text = target.read_text()
    assert str(Path.home()) not in text and str(tmp_path) not in text


def fixture() -> dict:
    """A small result, of a machine that does not exist."""
    def row(pool, order, window="2x2/s2"):
        made = rows.Row(pool, "forward", window, rows.LARGE, "float32", order)
        times = {name: {"ms": ms, "low": ms, "high": ms, "turns": 3} for name, ms in (("numbapool", 2.0), ("torch", 8.0), ("floor", 1.0))}
        return {"label": str(made), **vars(made), "gb_s": 12.345, "times": times, "to_floor": 2.0, "to_torch": 0.25, "agrees": {"torch": True},
                "extra_bytes": 0}
    machine = {"cpu": "Imagined 9000", "cores": 2, "caches": {"L1": "32K"}, "memory_gb": 8.0, "os": "Linux", "revision": "abc",
               "versions": {"python": "3.11", "numba": "1", "numpy": "2", "torch": "3"}, "date": "2026-01-01", "floor_gb_s": {"1t": 10.0, "2t": 15.0}}
    first = [{"pool": "max", "direction": "forward", "dtype": "float32", "state": state, "first_ms": ms}
             for state, ms in (("cold", 1500.0), ("cached", 30.0))]
    return {"machine": machine, "peers": ["torch"], "first_calls": first,
            "rows": [row("max", "channels-first"), row("max", "channels-last"), row("soft", "channels-first"),
                     row("avg", "channels-first", "3x3/s2/p1"), {"label": "broken", "error": "ValueError: so it goes"}]}


def test_the_report(tmp_path):
    readme, plot = tmp_path / "README.md", tmp_path / "docs" / "performance.png"
    readme.write_text(f"before\n{report.BEGIN}old\n{report.END}\nafter\n")
    for _ in range(2):  # a second report replaces the first
        report.write(fixture(), readme, plot)
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}Imagined 9000, 2 cores") and text.endswith(f"{report.END}\nafter\n") and "old" not in text
    assert "| max forward | 2.00 | 12.3 | 2.00 | 0.250 | 2.00 | 12.3 | 2.00 | 0.250 |" in text
    assert "| soft forward | 2.00 | 12.3 | 2.00 | 0.250 | - | - | - | - |" in text
    assert "| avg forward 3x3/s2/p1 8x64x112x112 float32 channels-first 1t | 2.00 |" in text
    assert "| max forward float32 | 1.50 | 30.0 |" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [name for name, _ in picture.sorted_lines(fixture())] == ["max forward", "soft forward"]


def test_a_readme_without_the_markers_is_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(ValueError, match="has no line"):
        report.write(fixture(), readme, tmp_path / "p.png")
    assert readme.read_text() == "nothing here"


def test_cliffs_are_judged_by_torch_and_by_the_neighbours():
    spots = [cliffs.Spot("max", "forward", 64, k, 2, 1) for k in (2, 3, 4)]
    found = {spot: {"label": str(spot), "numbapool": ms, "torch": 2.0, "per_mb": ms} for spot, ms in zip(spots, (1.0, 9.0, 1.0), strict=True)}
    assert [row["cliff"] for row in cliffs.judged(found)] == [[], ["to_torch", "to_neighbours"], []]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:All-NaN slice")
@pytest.mark.parametrize(("name", "dtype"), rasters.ROWS)
def test_rasters_are_reduced_alike(name, dtype):
    """What is compared computes the same."""
    x = rasters.raster(name, dtype, 64)
    blocks = x.reshape(32, 2, 32, 2)
    assert rasters.agree(rasters.ours(name, x)(), rasters.function_of(name)(blocks, axis=(1, 3)))
    assert not rasters.agree(rasters.ours(name, x)() + np.float32(1), rasters.function_of(name)(blocks, axis=(1, 3)))


def test_the_table_of_rasters():
    row = rasters.measure("mean", "uint8", 0.01, 64)
    assert all(row["agrees"].values()) and min(t["ms"] for t in row["times"].values()) > 0
    assert rasters.table([row, {**row, "times": {}}]).count("| - ") >= 1 and "mean of uint8" in rasters.table([row])
