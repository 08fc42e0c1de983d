"""The table of hyper-parameters in the docs says what the code says."""

from pathlib import Path

from somcore import LossConfig, MapConfig

DEEP = Path(__file__).parents[2] / "docs" / "deep.md"
TABLE = Path(__file__).parents[2] / "docs" / "hyperparameters.md"


def test_every_hyperparameter_is_documented_as_it_is():
    lines = {line.split("|")[1].strip(): line for line in TABLE.read_text().splitlines() if line.startswith("| `")}
    rows = MapConfig.describe()
    assert len(lines) == len(rows)
    for row in rows:
        line = lines[f"`{row['name']}`"]
        default = "–" if row["default"] is None else str(row["default"])
        for text in (row["symbol"], row["valid"].replace("|", "\\|"), row["unit"], default, row["meaning"]):
            assert f"| {text} |" in line, (row["name"], text)


def test_every_weight_of_the_loss_is_documented_as_it_is():
    text = DEEP.read_text()
    for row in LossConfig.describe():
        default = "–" if row["default"] is None else str(row["default"])
        cells = [
            f"`{row['name']}`",
            row["symbol"],
            row["valid"].replace("|", "\\|"),
            row["unit"],
            default,
            row["meaning"],
        ]
        assert f"| {' | '.join(cells)} |" in text, row["name"]
