"""What a sweep refuses, in one line, before anything is started."""

import json
import subprocess
import sys

import pytest

from jobs._run import numbers
from pipeline.errors import UserError
from pipeline.places import alone_in
from pipeline.sweeps.plan import SweepOptions
from pipeline.sweeps.planning import make_plan
from pipeline.sweeps.record import kept_place
from pipeline.sweeps.spaces import PUBLISHED
from pipeline.sweeps.sweep import sweep
from tests.training import REPOSITORY


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"model": "sssm"}, "train.model must be|--model must be"),
        ({"search": "annealing"}, "--search must be one of random, lhs, optuna, grid. Got 'annealing'."),
        ({"scheduler": "pbt"}, "--scheduler must be one of none, asha. Got 'pbt'."),
        ({"metric": "f1"}, "--metric must be one of accuracy, .*, which sssom has on these data. Got 'f1'."),
        ({"model": "kohonen", "metric": "accuracy"}, "--metric must be one of clustering_acc.* Got 'accuracy'."),
        ({"samples": 0}, "--samples must be an integer >= 1. Got 0."),
        ({"model": "kohonen", "samples": 3}, "--samples must be 1 where there is no --space, .*. Got 3."),
        ({"fractions": [2.0]}, r"--fractions must be shares in \[0, 1\], such as 0.05 for 5 %. Got \[2.0\]."),
        ({"fractions": [0.1234561, 0.1234562]}, r"--fractions must be different in their first six digits. Got \[0.12"),
        ({"seeds": [0, 0]}, r"--seeds must be different integers. Got \[0, 0\]."),
        ({"seeds": []}, r"--seeds must be different integers. Got \[\]."),
        ({"fractions": []}, r"--fractions must be shares in \[0, 1\], such as 0.05 for 5 %. Got \[\]."),
        ({"seeds": [-1]}, "train.seed must be an integer"),
        (
            {"settings": {"train.seed": 3}},
            "train.seed must be given to the sweep by its own option. Got 'train.seed=3'",
        ),
        (
            {"settings": {"train.model": "deep"}},
            "train.model must be given to the sweep by its own option. Got 'train.model=deep'. Leave out --model sssom",
        ),
        (
            {"settings": {"train.checkpoints": "there"}},
            "train.checkpoints must be left out where several runs are trained, .* Got 'there'. Each keeps",
        ),
        ({"settings": {"map.epoch": 3}}, "Unknown key 'map.epoch'. Did you mean 'map.epochs'?"),
        ({"settings": {"map.capacity": -3}}, "map.capacity must be"),
        ({"validation_fraction": 1.5}, r"--validation-fraction must be a share in \[0, 1\). Got 1.5."),
        ({"validation_fraction": float("nan")}, r"--validation-fraction must be a share in \[0, 1\). Got nan."),
        ({"fractions": [float("nan")]}, r"--fractions must be shares in \[0, 1\], such as 0.05 for 5 %. Got \[nan\]."),
        ({"data": ["/nothing"]}, "/nothing is not a prepared data set"),
        ({"data": []}, "--data must be given, unless --resume goes on with a sweep."),
        ({"model": None}, "--model must be one of kohonen, dssom, .*. Got None."),
    ],
)
def test_an_option_that_cannot_be(digits, tmp_path, changes, sentence):
    asked = {"data": [str(digits)], "model": "sssom"} | changes
    with pytest.raises(ValueError, match=sentence) as caught:
        sweep(SweepOptions(**asked), tmp_path / "new" / "out", tracking_uri="none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_a_time_budget_is_said_in_the_minutes_it_was_given_in(digits, tmp_path, minutes):
    with pytest.raises(UserError, match=f"--time-budget must be a finite number > 0. Got {minutes}."):
        sweep(SweepOptions(data=[str(digits)], model="sssom"), tmp_path / "out", time_budget_s=60 * minutes)


def test_a_folder_of_something_else_is_refused(digits, tmp_path):
    asked = SweepOptions(data=[str(digits)], model="sssom", seeds=[0])
    plan = make_plan(asked, tmp_path / "out", resume=False)
    with pytest.raises(UserError, match="already holds a sweep .sssom.. Give another --out, or --resume"):
        make_plan(asked, tmp_path / "out", resume=False)
    other = SweepOptions(data=[str(digits)], model="sssom", seeds=[1])
    with pytest.raises(UserError, match=r"seeds must be \[0\] to go on with the sweep in .*Got \[1\]"):
        make_plan(other, tmp_path / "out", resume=True)
    assert make_plan(asked, tmp_path / "out", resume=True).name == plan.name
    with pytest.raises(
        UserError, match="none' holds no sweep to go on with. Give the --out of one, or --data to begin."
    ):
        make_plan(SweepOptions(), tmp_path / "none", resume=True)
    assert make_plan(SweepOptions(), tmp_path / "out", resume=True) == plan  # it knows its data and model
    more = SweepOptions(samples=3, space="sssom")
    with pytest.raises(UserError, match="space must be 'defaults' as it was to go on .* Got 'sssom'"):
        make_plan(more, tmp_path / "out", resume=True)
    make_plan(SweepOptions(data=[str(digits)], model="sssom", samples=3), tmp_path / "drawn", resume=False)
    with pytest.raises(UserError, match="samples must be at least 3 to go on with the sweep in .*Got 2"):
        make_plan(SweepOptions(samples=2), tmp_path / "drawn", resume=True)


def test_data_that_were_moved_or_made_anew_are_named_in_one_line(digits, tmp_path):
    (tmp_path / "dd").symlink_to(digits, target_is_directory=True)
    asked = SweepOptions(data=[str(tmp_path / "dd")], model="sssom")
    make_plan(asked, tmp_path / "out", resume=False)
    (tmp_path / "dd").rename(tmp_path / "away")
    wrong = (
        r"^data must be 'dd' \(manifest (\w{8})\) as it was to go on with .*"
        r"Got 'away' \(manifest \1\)\. Give the same data under the same names by --data, or another --out"
    )
    with pytest.raises(UserError, match=wrong):
        make_plan(SweepOptions(data=[str(tmp_path / "away")]), tmp_path / "out", resume=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "away").rename(tmp_path / "there" / "dd")
    make_plan(SweepOptions(data=[str(tmp_path / "there" / "dd")]), tmp_path / "out", resume=True)


def test_a_sweep_that_goes_on_stays_in_its_store_and_experiment(digits, tmp_path):
    make_plan(SweepOptions(data=[str(digits)], model="sssom"), tmp_path, resume=False)
    assert kept_place(tmp_path, "http://a:PASSWORD@host:5000", "x") == ("http://a:PASSWORD@host:5000", "x")
    make_plan(SweepOptions(), tmp_path, resume=True)
    assert kept_place(tmp_path, None, None) == ("http://host:5000", "x")
    assert kept_place(tmp_path, "none", "y") == ("none", "y")
    assert kept_place(tmp_path, None, None) == ("none", "y")


def test_a_folder_held_by_others_is_refused(digits, tmp_path):
    asked = SweepOptions(data=[str(digits)], model="sssom")
    make_plan(asked, tmp_path / "out", resume=False)
    with alone_in(tmp_path / "out", "a sweep"), pytest.raises(UserError, match="is in use by a sweep that is running"):
        sweep(asked, tmp_path / "out", resume=True, tracking_uri="none")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run. Give another --out."):
        sweep(asked, tmp_path / "run", tracking_uri="none")


@pytest.mark.parametrize("search", ["lhs", "optuna"])
@pytest.mark.parametrize("text", ["map.fallback: [nearest, bogus]", "map.bmu_rate: {low: 0.1, high: 2}"])
def test_every_choice_and_every_end_of_a_range_is_checked(digits, tmp_path, search, text):
    (tmp_path / "space.yaml").write_text(f"{text}\nmap.epochs: 1")
    asked = {"data": [str(digits)], "model": "sssom", "samples": 10, "search": search}
    with pytest.raises(ValueError, match=f"{text.partition(':')[0]} must be"):
        make_plan(SweepOptions(**asked, space=str(tmp_path / "space.yaml")), tmp_path / "out", resume=False)


@pytest.mark.parametrize("model", PUBLISHED)
def test_optuna_takes_the_published_spaces(digits, tmp_path, model):
    asked = SweepOptions(data=[str(digits)], model=model, space=model, search="optuna")
    assert make_plan(asked, tmp_path / "out", resume=False).num_sets == 10


def test_a_space_that_was_edited_is_told_by_what_is_other(digits, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("map.capacity: [20, 30]\nmap.bmu_rate: {low: 0.01, high: 0.2}\nmap.batch_size: 64")
    asked = SweepOptions(data=[str(digits)], model="sssom", space=str(file))
    make_plan(asked, tmp_path / "out", resume=False)
    file.write_text(file.read_text().replace("0.2", "0.3").replace("64", "32"))
    told = "space must be 'space' as it was to go on .* Got 'space' with other ranges or values of map.bmu_rate, map"
    with pytest.raises(UserError, match=told):
        make_plan(asked, tmp_path / "out", resume=True)


def test_a_sweep_that_was_begun_before_whole_numbers_were_a_kind_goes_on_with_its_file(digits, tmp_path):
    (tmp_path / "space.yaml").write_text(
        "map.capacity: {low: 20, high: 40, integer: true, steps: 3}\nmap.batch_size: [64, 64, 32]"
    )
    asked = SweepOptions(data=[str(digits)], model="sssom", space=str(tmp_path / "space.yaml"), search="grid")
    make_plan(asked, tmp_path / "out", resume=False)
    file = tmp_path / "out" / "sweep.json"
    content = json.loads(file.read_text())
    space = content["definition"]["space"]
    space["columns"][0][1], space["points"]["map.batch_size"] = "integer", [64, 64, 32]
    content["definition"]["samples"] = 10
    file.write_text(json.dumps(content))
    plan = make_plan(asked, tmp_path / "out", resume=True)
    assert plan.space.columns[0].kind == "integer" and plan.num_sets == 9
    assert make_plan(SweepOptions(), tmp_path / "out", resume=True) == plan


def test_another_order_or_number_of_steps_is_told(digits, tmp_path):
    file, lines = tmp_path / "space.yaml", ["map.bmu_rate: {low: 0.1, high: 0.2, steps: 3}", "map.epochs: [1, 2]"]
    file.write_text("\n".join(lines))
    asked = SweepOptions(data=[str(digits)], model="sssom", space=str(file))
    make_plan(asked, tmp_path / "out", resume=False)
    for text, told in (("\n".join(lines[::-1]), "order of its entries"), ("\n".join(lines).replace("3", "9"), "steps")):
        file.write_text(text)
        with pytest.raises(UserError, match=f"Got 'space' with other {told}"):
            make_plan(asked, tmp_path / "out", resume=True)


def test_a_grid_takes_all_its_sets(digits, tmp_path):
    (tmp_path / "space.yaml").write_text("map.capacity: [20, 30, 40]")
    asked = {"data": [str(digits)], "model": "sssom", "search": "grid", "space": str(tmp_path / "space.yaml")}
    with pytest.raises(UserError, match="--samples must be left out with --search grid, which takes all 3 .* Got 2"):
        make_plan(SweepOptions(**asked, samples=2), tmp_path / "out", resume=False)
    plan = make_plan(SweepOptions(**asked), tmp_path / "out", resume=False)
    assert plan.num_sets == plan.definition["samples"] == 3
    with pytest.raises(UserError, match="--samples must be left out with --search grid, which takes all 3 .* Got 50"):
        make_plan(SweepOptions(samples=50), tmp_path / "out", resume=True)


def test_one_data_set_given_twice(digits, tmp_path):
    with pytest.raises(UserError, match="^--data must be different data sets. Got .*data, .*data/'"):
        make_plan(SweepOptions(data=[str(digits), f"{digits}/"], model="sssom"), tmp_path / "out", resume=False)


def test_settings_of_machines_may_change_where_a_sweep_goes_on(digits, tmp_path):
    def plan(resume, **settings):
        asked = SweepOptions(data=[str(digits)], model="sssom", settings=settings)
        return make_plan(asked, tmp_path, resume).definition["settings"]

    plan(False, **{"map.epochs": 2})
    assert plan(True, **{"cluster.cpus_per_worker": 2.0}) == {"map.epochs": 2, "cluster.cpus_per_worker": 2.0}
    with pytest.raises(UserError, match="^settings must be .* to go on"):
        plan(True, **{"map.epochs": 3})


@pytest.mark.parametrize("text", ["0,a", "", "1,1"])
def test_a_list_of_numbers_that_is_none(text):
    with pytest.raises(UserError, match="--seeds must be"):
        numbers("--seeds", text, int)


def test_the_command_ends_with_one_line_and_exit_code_2(digits, tmp_path):
    (tmp_path / "space.yaml").write_text("map.bmu_rate: {low: 1, high: 0}")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.sweep", "--data", digits, "--model", "sssom", "--out", tmp_path / "out",
         "--space", tmp_path / "space.yaml"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == ["map.bmu_rate must be a range with low < high. Got {'low': 1, 'high': 0}."]


def test_a_signal_cannot_cut_off_the_import_of_ray_beside_a_thread_that_imports_mlflow(digits, tmp_path):
    """What it leaves half imported that thread trips over, and tells as a server that is away."""
    program = f"""
import sys
from pathlib import Path
from pipeline.sweeps.sweep import Recorder, SweepOptions, sweep
def start(self):
    print("ray.tune" in sys.modules)
    raise SystemExit
Recorder.start = start
sweep(SweepOptions(data=[{str(digits)!r}], model="sssom"), Path({str(tmp_path / "out")!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr
