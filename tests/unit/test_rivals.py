"""The rivals' rules against their formulas, and every rival through the same training."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from pipeline.config import RunConfig
from pipeline.deep.augment import Draws, views_of
from pipeline.deep.model import DeepModel
from pipeline.deep.network import load_flat
from pipeline.errors import Diverged, UserError
from pipeline.predictor import Predictor
from pipeline.prepare import prepare
from pipeline.prepared.shards import Dataset
from pipeline.rivals import RIVALS, deepcluster, rival_class
from pipeline.rivals.base import Tile, places_of, plain_map, replaced, voted_classes
from pipeline.rivals.clusters import k_means, nearest_nodes, refilled, settled
from pipeline.rivals.config import SETTINGS, reads
from pipeline.rivals.dec import soft_assignment, target_distribution
from pipeline.rivals.deepcluster import balanced_rows, whitening
from pipeline.rivals.fixmatch import sure_classes
from pipeline.rivals.rounds import RivalRounds
from pipeline.rivals.vqvae import make_quantizer
from pipeline.rivals.world import World
from pipeline.serving.trained import evaluate_run
from pipeline.sources import SourceOptions, open_source
from pipeline.training.checkpoint import Snapshot, read
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan
from pipeline.training.reduction import LocalReduction
from pipeline.training.trainer import train
from somcore.state import blank_state
from tests.training import table

QUICK = {"map.epochs": 2, "map.batch_size": 256, "map.tile_size": 64, "encoder.width": 4, "encoder.dim": 6}
QUICK |= {"deep.rate_warmup_rounds": 1, "deep.learning_rate": 0.01, "rival.restarts": 2, "rival.clusters": 10}


def settings(model, data, **changes):
    flat = QUICK | {key.replace("__", "."): value for key, value in changes.items()}
    flat = {key: value for key, value in flat.items() if reads(model, key)}
    flat |= {"data.path": str(data), "train.model": model, "cluster.workers": 0, "tracking.uri": "none"}
    return {"train.labelled_fraction": 0.3, "train.evaluate_rows": 100, **flat}


# ---------------------------------------------------------------- every rival, the same training


@pytest.mark.parametrize("model", RIVALS)
def test_a_rival_trains_resumes_and_is_used_like_any_model(model, digits, tmp_path):
    whole = train(settings(model, digits), tmp_path / "whole")
    assert whole["nodes"] == 10 and 0 < whole["accuracy"] <= 1 and 0 < whole["clustering_accuracy"] <= 1
    scores = evaluate_run(str(tmp_path / "whole"), None, "test")
    for name in ("accuracy", "clustering_accuracy", "nmi", "map_digest"):
        assert scores[name] == whole[name]
    samples = Dataset.open(digits).read_raw("test", slice(0, 20))
    answers = Predictor.load(tmp_path / "whole")(samples.numpy())
    assert len(answers) == 20 and set(answers["node"]) <= set(range(10)) and answers["novelty"].between(0, 1).all()
    check_the_map_on_its_rows(model, digits, tmp_path / "whole")
    if model == "kmeans":
        return  # one round: nothing to interrupt

    def stop(epoch, expected, metrics):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="State saved"):
        train(settings(model, digits, train__checkpoint_rounds=5), tmp_path / "cut", on_epoch=stop)
    resumed = train(settings(model, digits), tmp_path / "cut", resume=True)
    assert resumed["map_digest"] == whole["map_digest"]


def check_the_map_on_its_rows(model, digits, run):
    """It accepts 95 % of the rows it was trained on, and nodes of a clustering win those that they are said to win."""
    predictor = Predictor.load(run)
    answers = predictor(Dataset.open(digits).read_raw("train", slice(None)).numpy())
    assert (answers["novelty"] > 0.5).mean() == pytest.approx(0.05, abs=0.005)
    if model not in ("supervised", "fixmatch"):
        won = np.bincount(answers["node"], minlength=10)
        assert abs(won - predictor.state.wins.numpy()).sum() <= 4, "but for rounding"


@pytest.mark.parametrize("model", [name for name in RIVALS if name != "kmeans"])
def test_narrow_numbers_train_a_rival_too(model, digits, tmp_path):
    wide, narrow = (
        train(settings(model, digits, deep__precision=precision), tmp_path / precision)
        for precision in ("float32", "bfloat16")
    )
    assert narrow["map_digest"] != wide["map_digest"]
    assert abs(narrow["clustering_accuracy"] - wide["clustering_accuracy"]) < 0.3


def test_without_labels_clusters_have_no_classes(digits, tmp_path):
    result = train(settings("autoencoder-kmeans", digits, train__labelled_fraction=0.0), tmp_path / "run")
    assert result["accuracy"] is None and result["clustering_accuracy"] > 0


def test_labels_do_not_change_what_a_clustering_learns(digits, tmp_path):
    """Only the classes of the nodes come from labels."""
    few, many = (
        train(settings("dec", digits, train__labelled_fraction=share), tmp_path / str(share)) for share in (0.05, 1.0)
    )
    assert few["clustering_accuracy"] == many["clustering_accuracy"] and few["nmi"] == many["nmi"]


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("kmeans", {"encoder.width": 8}, "encoder.width must be used with autoencoder-kmeans"),
        ("kmeans", {"map.capacity": 8}, "map.capacity must be used with a map. Got kmeans"),
        ("supervised", {"rival.clusters": 8}, "rival.clusters must be used with kmeans"),
        ("dec", {"rival.confidence": 0.9}, "rival.confidence must be used with fixmatch. Got dec"),
        ("vqvae", {"loss.push_weight": 1.0}, "loss.push_weight must be used with a map"),
        ("sssom", {"rival.clusters": 8}, r"rival.\* must be used with kmeans"),
        ("kmeans", {"rival.clusters": 1}, "rival.clusters must be a number of clusters >= 2"),
        ("kmeans", {"rival.clusters": 5000}, "rival.clusters must be at most the 1438 rows that are trained on"),
        ("fixmatch", {"train.labelled_fraction": 0.0}, "must have labelled rows"),
        ("deepcluster", {"rival.whitened_dim": 99}, "rival.whitened_dim must be at most encoder.dim, 64"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(digits, tmp_path, model, change, message):
    flat = {"data.path": str(digits), "train.model": model, "cluster.workers": 0, "tracking.uri": "none", **change}
    with pytest.raises(ValueError, match=message):
        train(flat, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_classifier_of_one_class_is_refused(rng, tmp_path):
    data = table(tmp_path / "t", rng.normal(size=(30, 3)), np.zeros(30, dtype=int))
    flat = {"data.path": str(data), "train.model": "supervised", "cluster.workers": 0, "tracking.uri": "none"}
    with pytest.raises(
        ValueError, match="--data must be a data set with at least two classes for supervised. Got 'one"
    ):
        train(flat, tmp_path / "run")


def test_a_classifier_may_have_fewer_rows_than_classes_and_clusters_may_not(tmp_path):
    rows = ["x,y,split", "1,a,train", "2,b,train", "3,c,test", "2,a,test"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    prepare(
        open_source("table", tmp_path / "t.csv", SourceOptions(label_column="y", split_column="split")), tmp_path / "d"
    )
    flat = {"data.path": str(tmp_path / "d"), "cluster.workers": 0, "tracking.uri": "none", "map.epochs": 2}
    assert train({**flat, "train.model": "supervised"}, tmp_path / "run")["nodes"] == 3
    with pytest.raises(ValueError, match="rival.clusters must be at most the 2 rows that are trained on. Got 3"):
        train({**flat, "train.model": "kmeans"}, tmp_path / "other")


@pytest.mark.parametrize("model", ["kmeans", "autoencoder-kmeans", "dec", "deepcluster", "vqvae"])
def test_clusters_are_counted_against_the_rows_that_validation_leaves(model, rng, tmp_path):
    classes = np.arange(40) % 3
    data = table(tmp_path / "t", rng.normal(classes[:, None], 0.1, (40, 3)), classes, test_fraction=0.25)
    few = settings(model, data, rival__clusters=3, map__epochs=1) | {"train.labelled_fraction": 1.0}
    few |= {"train.validation_fraction": 0.5}
    plan = make_plan(RunConfig.build(few), Dataset.open(data))
    assert plan.num_samples < 30 and train(few, tmp_path / "run")["nodes"] == 3
    wrong = ["clusters", *["pseudo_clusters"] * (model == "deepcluster")]
    assert plan.deep.rival.config.pseudo_clusters in (None, plan.num_samples)
    for name in wrong:
        with pytest.raises(UserError, match=f"rival.{name} must be at most the {plan.num_samples} rows that are"):
            train(few | {f"rival.{name}": plan.num_samples + 1}, tmp_path / "other")


def test_missing_values_are_refused(rng, tmp_path):
    rows = rng.normal(size=(30, 3))
    rows[4, 1] = np.nan
    data = table(tmp_path / "t", rows, np.arange(30) % 3, missing="mask")
    flat = {"data.path": str(data), "train.model": "kmeans", "cluster.workers": 0, "tracking.uri": "none"}
    with pytest.raises(ValueError, match="The data of model kmeans must have every value"):
        train(flat, tmp_path / "run")


def test_every_setting_of_a_rival_is_one_of_the_configuration():
    known = set(RunConfig.model_fields["rival"].annotation.model_fields)
    assert {name for names in SETTINGS.values() for name in names} == known


# ---------------------------------------------------------------- rounds


def rounds_of(model, digits, **changes):
    """The rounds of a training of one epoch, and what it begins with."""
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(settings(model, digits, map__epochs=1, **changes)), dataset)
    return RivalRounds(plan), first_snapshot(plan, dataset)


def test_a_classifier_learns_from_the_rows_that_keep_their_label(digits):
    rounds, snapshot = rounds_of("supervised", digits)
    cut = rounds._cut(snapshot, 0)
    labels = Dataset.open(digits).labels("train")
    assert 50 < len(cut.rows) < 256 and torch.equal(cut.labels, labels[cut.rows])


def test_the_moving_mean_of_the_parameters_is_what_remains(digits):
    rounds, snapshot = rounds_of("supervised", digits)
    while not snapshot.state.finished:
        before = snapshot.network
        snapshot = rounds.play(snapshot, LocalReduction(), lambda: None)
    assert not torch.equal(before.values, before.average)
    assert torch.equal(snapshot.network.values, snapshot.network.average)


def test_clusters_are_taken_anew_as_often_as_asked_and_at_the_end(digits, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(deepcluster, "k_means", lambda *given: taken.append(given[1]) or k_means(*given))
    train(settings("deepcluster", digits, map__epochs=3, rival__reassign_epochs=2), tmp_path / "run")
    assert len(taken) == 3, "before the first and the third epoch, and for the map"


# ---------------------------------------------------------------- clusterings


def test_k_means_begins_as_often_as_asked_from_the_seed(rng):
    rows = torch.from_numpy(rng.random((80, 2)))
    theirs = {asked: KMeans(9, n_init=asked[0], random_state=asked[1]).fit(rows) for asked in ((5, 7), (1, 7), (5, 0))}
    inertia = {asked: found.inertia_ for asked, found in theirs.items()}
    assert len(set(inertia.values())) == 3, "each start ends elsewhere"
    for (restarts, seed), found in theirs.items():
        np.testing.assert_allclose(k_means(rows, 9, restarts, seed)[0], found.cluster_centers_)


def test_nodes_are_named_by_the_labels_of_the_rows_that_are_trained_on():
    """Beside them are rows that validation withholds."""
    world = SimpleNamespace(rows=torch.tensor([1, 3]), labels=torch.tensor([-1, 0, -1, 1]))
    centres, features = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [0.9]])
    state = settled(Snapshot(blank_state(2, 1, 2)), centres, world, features).state
    assert (state.classes.tolist(), state.wins.tolist()) == ([0, 1], [1, 1])


def test_every_sample_of_its_own_cluster_has_no_error(rng):
    rows = torch.from_numpy(rng.normal(size=(12, 3))).to(torch.float32)
    centres, nodes = k_means(rows, 12, 1, 0)
    assert sorted(nodes.tolist()) == list(range(12))
    found, errors = nearest_nodes(plain_map(centres, blank_state(12, 3, 0)), rows)
    assert torch.equal(found, nodes) and float(errors.max()) < 1e-12


@pytest.mark.parametrize(
    ("count", "classes", "kept", "wins"),
    [(3, None, [1, 0, 1], [5, 6, 7]), (2, None, [-1, -1], [0, 0]), (2, [1, 0], [1, 0], [0, 0])],
)
def test_a_map_of_as_many_nodes_as_before_keeps_what_they_are(count, classes, kept, wins):
    before = dataclasses.replace(
        blank_state(3, 2, 2), classes=torch.tensor([1, 0, 1]), wins=torch.tensor([5, 6, 7]), round=9, finished=True
    )
    made = plain_map(torch.ones(count, 2), before, classes and torch.tensor(classes))
    assert (made.classes.tolist(), made.wins.tolist(), made.alive.tolist()) == (kept, wins, [True] * count)
    assert (made.round, made.finished, made.growing) == (9, True, False)


def test_empty_clusters_are_refilled_from_the_largest(rng):
    rows = torch.from_numpy(rng.normal(size=(50, 2)))
    centres, nodes = refilled(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(50, dtype=torch.int64), rows)
    assert sorted(torch.bincount(nodes).tolist()) == [12, 12, 13, 13]
    for node in range(4):
        assert np.allclose(centres[node], rows[nodes == node].mean(0))
    same = torch.ones(1, 2, dtype=torch.float64)  # nothing to cut: nothing invented
    assert refilled(torch.zeros(2, 2), torch.zeros(1, dtype=torch.int64), same)[1].tolist() == [0]


def test_a_node_has_the_commonest_class_of_its_labelled_samples():
    nodes, labels = torch.tensor([0, 0, 0, 1, 1, 2, 3]), torch.tensor([1, 2, 2, 1, 0, -1, 1])
    assert voted_classes(nodes, labels, 5, 3).tolist() == [2, 0, -1, 1, -1], "one sample is enough"


def test_whitened_features_have_variance_one_and_no_covariance(rng):
    rows = torch.from_numpy(rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 3)
    weight, offset = whitening(rows, 3)
    moved = (rows @ weight.T + offset).numpy()
    assert np.allclose(np.cov(moved.T, bias=True), np.eye(3), atol=1e-3) and np.allclose(moved.mean(0), 0, atol=1e-9)


def test_clusters_of_any_size_are_drawn_alike():
    pseudo = torch.cat([torch.zeros(900), torch.ones(90), torch.full((9,), 3.0), torch.full((5,), -1.0)]).long()
    rows = balanced_rows(pseudo, 0, 0, torch.arange(3000))
    shares = torch.bincount(pseudo[rows], minlength=4) / 3000
    assert abs(shares[[0, 1, 3]] - 1 / 3).max() < 0.04 and shares[2] == 0
    assert len(rows[pseudo[rows] == 3].unique()) == 9
    assert not torch.equal(rows, balanced_rows(pseudo, 0, 1, torch.arange(3000)))


# ---------------------------------------------------------------- formulas


def test_assignment_and_target_of_dec_are_the_published_formulas(rng):
    features, centres = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    q = np.array([[1 / (1 + ((z - c) ** 2).sum()) for c in centres] for z in features])
    q /= q.sum(1, keepdims=True)
    found = soft_assignment(torch.from_numpy(features), torch.from_numpy(centres))
    assert np.allclose(found, q)
    p = np.empty_like(q)
    for i in range(7):
        row = [q[i, j] ** 2 / q[:, j].sum() for j in range(4)]
        p[i] = np.array(row) / sum(row)
    assert np.allclose(target_distribution(found), p)


def test_fixmatch_takes_sure_unlabelled_samples_only():
    scores = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 9.0], [0.0, 9.0]])
    places, classes = sure_classes(scores, torch.tensor([-1, -1, -1, 1]), 0.95)
    assert places.tolist() == [0, 2] and classes.tolist() == [0, 1]


def _rival(model, digits, **changes):
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(settings(model, digits, **changes)), dataset)
    network = plan.deep.network()
    load_flat(network, plan.deep.first_network(0, dataset.read("train", slice(0, 8))[0]).values)
    return plan, network, rival_class(model)(plan, network, dataset.labels("train")), dataset


def test_the_loss_of_fixmatch_is_the_published_one(digits):
    _, network, rival, dataset = _rival("fixmatch", digits)
    samples, labels = dataset.read("train", slice(0, 30))
    labels = torch.where(torch.arange(30) < 6, labels, -1)
    tile = Tile(samples, labels, torch.arange(30), torch.arange(30), 0, slice(0, 30), 30, 6)
    weak, strong = views_of("digits", (1, 8, 8))
    with torch.no_grad():
        first = network.encoder(weak(samples, Draws(0, 0, torch.arange(30), "weak"))).double().numpy()
        second = network.encoder(strong(samples, Draws(0, 0, torch.arange(30), "strong"))).double().numpy()
    confidence = float(np.median(first.max(1)))
    config = rival.rival.config.model_copy(update={"confidence": confidence})
    rival.rival = dataclasses.replace(rival.rival, config=config)
    terms, _ = rival.loss(None, tile)
    sure = (first.max(1) >= confidence) & (labels.numpy() < 0)
    assert 0 < sure.sum() < 24
    unlabelled = -np.log(second[np.arange(30), first.argmax(1)])[sure].sum() / 24
    supervised = -np.log(first[np.arange(6), labels[:6].numpy()]).sum() / 6
    values = {name: float(term.sum.detach()) * term.share for name, term in terms.items()}
    assert np.allclose(values["consistency"], unlabelled, rtol=1e-4)
    assert np.allclose(values["cross_entropy"], supervised, rtol=1e-4) and terms["consistency"].count == sure.sum()


def test_the_gradient_goes_straight_through_the_code():
    torch.manual_seed(0)
    quantizer = make_quantizer(3, 4, 0.9, 0.0).train()
    features = torch.randn(6, 3, requires_grad=True)
    quantizer._codebook.init_embed_(features.detach().unsqueeze(0))
    codes, chosen, distance = quantizer(features, freeze_codebook=True)
    assert torch.allclose(codes, quantizer.codebook[chosen])
    weight = torch.arange(18.0).view(6, 3)
    (codes * weight).sum().backward()
    assert torch.equal(features.grad, weight)
    assert torch.allclose(distance, (features - quantizer.codebook[chosen]).square().mean())


def test_codes_follow_moving_means_and_dead_ones_are_revived(rng):
    torch.manual_seed(0)
    quantizer = make_quantizer(2, 3, 0.5, 1.0)
    book = quantizer._codebook
    book.initted.fill_(True)
    quantizer.codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
    book.embed_avg.copy_(quantizer.codebook.unsqueeze(0) * 4)
    book.cluster_size.fill_(4.0)
    rows = torch.from_numpy(rng.uniform(0, 1, size=(8, 2))).float()
    chosen = quantizer.eval()(rows)[1]
    counts = torch.bincount(chosen, minlength=3).double().numpy()
    sums = np.stack([rows[chosen == k].double().sum(0).numpy() for k in range(3)])
    quantizer.train().update_indices(rows, chosen)
    size = 0.5 * 4 + 0.5 * counts
    means = (0.5 * 4 * np.array([[0, 0], [1, 1], [9, 9]]) + 0.5 * sums) / size[:, None]
    assert np.allclose(quantizer.codebook, means, atol=1e-3)
    for _ in range(2):  # nothing comes near (9, 9): its moving count falls below 1
        chosen = quantizer.eval()(rows)[1]
        quantizer.train().update_indices(rows, chosen)
    assert (rows == quantizer.codebook[2]).all(1).any()


def test_all_codes_are_in_use(digits, tmp_path):
    recipe = {"map__epochs": 20, "encoder__width": 8, "deep__learning_rate": 0.005}
    train(settings("vqvae", digits, **recipe), tmp_path / "run")
    state = DeepModel.load(tmp_path / "run").state
    assert int(state.wins.sum()) == 1438 and bool((state.wins > 0).all())


# ---------------------------------------------------------------- parts of the network, workers


def test_a_part_of_the_network_begins_anew(digits):
    plan, network, _, dataset = _rival("deepcluster", digits)
    state = plan.deep.first_network(0, dataset.read("train", slice(0, 8))[0])
    moments = torch.ones_like(state.values)
    state = dataclasses.replace(state, first=moments, second=moments)
    places = places_of(network, "head")
    size = sum(parameter.numel() for parameter in network.head.parameters())
    after = replaced(state, places, torch.full((size,), 2.0))
    assert places.stop - places.start == size
    load_flat(network, after.values)
    assert all(bool((parameter == 2).all()) for parameter in network.head.parameters())
    assert float(after.first.sum()) == float(after.second.sum()) == len(state.values) - size
    assert torch.equal(after.average[places], after.values[places])


class _Both:
    """Two workers of one process: what the other would bring is added."""

    def __init__(self, rank, others):
        self.rank, self.world_size, self._others = rank, 2, others

    def max(self, value):
        return max(value, self._others[0])

    def sum(self, values):
        return values + self._others[1]


def test_features_of_two_workers_are_gathered_to_the_bit():
    whole = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    whole[0, 0], whole[5, 1] = -0.0, torch.finfo().tiny / 4
    bits = torch.zeros(7, 3, dtype=torch.int64)
    bits[4:] = whole[4:].view(torch.int32).to(torch.int64)
    world = World(None, None, torch.arange(7), torch.arange(7), _Both(0, (3.0, bits)), lambda: None)
    gathered = world.gather(whole[:4], 0, 7)
    assert torch.equal(gathered.view(torch.int32), whole.contiguous().view(torch.int32))


def test_what_is_remembered_is_in_checkpoint_and_digest(digits, tmp_path):
    def stop(epoch, expected, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings("deepcluster", digits, map__epochs=3), tmp_path / "run", on_epoch=stop)
    snapshot, record = read(sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))[-1])
    assert snapshot.memory["pseudo"].shape == (1438,) and record["digest"] == snapshot.digest()
    changed = {"pseudo": snapshot.memory["pseudo"] * 0}
    assert dataclasses.replace(snapshot, memory=changed).digest() != snapshot.digest()


@pytest.mark.parametrize("model", ["supervised", "fixmatch", "autoencoder-kmeans"])
def test_a_last_step_that_leads_nowhere_is_told_and_makes_no_map(model, digits, tmp_path):
    wild = {"deep__learning_rate": 1e39, "deep__rate_warmup_rounds": 0, "map__epochs": 1, "map__batch_size": 2000}
    with pytest.raises(Diverged, match="The encoder's parameters must be finite. Got infinity or NaN in round 0"):
        train(settings(model, digits, **wild), tmp_path / "run")
