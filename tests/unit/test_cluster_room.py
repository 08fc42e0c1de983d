"""What fits on the nodes of a cluster: without Ray."""

import pytest

from pipeline.cluster.room import capacity, even_share


@pytest.mark.parametrize(
    ("nodes", "bundles", "most", "share"),
    [
        ([4.0], 2, 1.0, 1.0),
        ([2.0], 3, 1.0, 0.66),
        ([1.0, 1.0], 3, 1.0, 0.5),
        ([1.0, 1.0], 1, 2.0, 1.0),  # two threads, nodes of one CPU
        ([8.0, 2.0], 3, 4.0, 4.0 * 2 / 3),
        ([3.98], 4, 1.0, 0.99),
        ([0.0, 0.5], 1, 1.0, 0.5),
        ([0.05], 6, 1.0, 0.0),
        ([], 1, 1.0, 0.0),
    ],
)
def test_an_even_share_fits_as_often_as_asked_without_lying_across_nodes(nodes, bundles, most, share):
    rooms = [{"CPU": node} for node in nodes]
    found = even_share(rooms, bundles, most)
    assert found == pytest.approx(share, abs=0.0099) and found <= share
    assert found == 0 or capacity(rooms, {"CPU": found}) >= bundles
    assert found == most or capacity(rooms, {"CPU": found + 0.01}) < bundles


@pytest.mark.parametrize(
    ("bundle", "fit"),
    [({"CPU": 1.0}, 5), ({"CPU": 0.1}, 50), ({"CPU": 3.0}, 1), ({"CPU": 1.0, "GPU": 0.5}, 2), ({"CPU": 5.0}, 0)],
)
def test_a_node_must_have_all_that_a_bundle_asks_for(bundle, fit):
    assert capacity([{"CPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}], bundle) == fit
