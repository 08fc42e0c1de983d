"""Weights that are none."""

import pytest

from pipeline.errors import UserError
from pipeline.pretrained import frozen_features


@pytest.mark.parametrize(("content", "said"), [(b"a,b\n1,2\n", "which holds none"), (None, "does not exist")])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path, content, said):
    if content:
        (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        frozen_features(f"resnet18:{tmp_path / 'w.pth'}", (1, 8, 8))
    assert "weights_only" not in str(error.value)
