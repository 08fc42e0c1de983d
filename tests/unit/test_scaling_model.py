"""The model of larger worlds gives back what a known link takes; the page says what was measured."""

import pytest

from pipeline.benchmarks.scaling_model import Link, fitted, markdown, predicted, ring


def test_a_known_link_is_found_again():
    link = Link("known", 40e-6, 2e9)
    sizes = (2**10, 2**14, 2**21)
    bare = {w: {n: ring(link, w, 8 * n) for n in sizes} for w in (2, 3, 4)}
    model = fitted(bare)
    assert model["latency_s"] == pytest.approx(link.latency_s, rel=0.15), "the smallest message is not empty"
    assert model["bandwidth"] == pytest.approx(link.bandwidth, rel=1e-6)
    assert predicted(model, 2, 1e6) == pytest.approx(ring(link, 2, 1e6) + ring(link, 2, 0), rel=0.15)


def test_a_ring_moves_twice_the_bytes_and_waits_for_every_step():
    link = Link("x", 1e-3, 1e9)
    assert ring(link, 1, 1e9) == 0
    assert ring(link, 2, 1e9) == pytest.approx(1.002)
    assert ring(link, 1024, 1e9) == pytest.approx(2 * 1023 * (1e-3 + 1 / 1024))


def test_the_page_has_every_measurement():
    def one(model, workers, tiles, **more):
        figures = {"seconds": 0.2, "waited": 0.05, "took": 0.01, "bytes": 5e6, "share": 0.01 / 0.15, "alive": 400}
        case = {"model": model, "nodes": 400, "features": 784, "classes": 0}
        return case | figures | {"workers": workers, "tiles": tiles} | more

    cases = [one("kohonen", w, 4) for w in (1, 2)]
    shares = [one("kohonen", 2, 2), one("sssom", 2, 4)]
    bare = {2: {2**10: 1e-4, 2**21: 2e-2}}
    checked = [case | {"predicted": 0.009} for case in [cases[1], *shares]]
    page = markdown(
        {"cases": cases, "shares": shares, "weak": {8: [1.7, 1.9, 1.8]}, "bare": bare, "model": fitted(bare),
         "checked": checked, "tile_size": 1024, "machine": {"cpus": 2, "load": 0.1}},
        "the command",
    )  # fmt: skip
    assert "`the command`" in page and "8 tiles each: 1.80 (1.70 to 1.90)." in page
    assert "| kohonen | 400 | 784 | 0 | 5.00 | 5.0 | 5.0 |" in page
    assert "| sssom | 2 | 200 | 5.0 | 10.0 | 6.7 % |" in page
    assert "W=1024" in page
