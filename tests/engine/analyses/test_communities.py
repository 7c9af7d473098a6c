"""The communities analysis against numpy and autograd on a small model: odd graphs, bad input, GraphML."""

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
import transformers as hf
import xarray as xr
from run_parts import carried_out, request_of, save_llama

from engine.analyses.communities import compute as communities_compute
from engine.analyses.communities import packing
from engine.analyses.communities.analysis import COMMUNITIES
from engine.analyses.communities.claims import claims
from engine.analyses.communities.plan import CommunitiesParams
from engine.analyses.header import Header, assemble
from engine.errors import UserError
from engine.graphs.partitions import ari as adjusted_rand
from engine.graphs.partitions import nmi, proper
from engine.jacobians.closed import component_operators
from engine.jacobians.mlp_half import mlp_half
from engine.jacobians.stream import ResidualStream
from engine.models.opening import OpenModel, open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import start
from engine.sessions.export import export

torch.set_num_threads(1)

D, LAYERS, SAMPLES = 24, 3, 40
QUICK = {"samples": "windows", "top_k": 4, "restarts": 3, "permutations": 499, "partitions": 50, "k": 6}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_llama(tmp_path_factory.mktemp("model"), width=D, layers=LAYERS)
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 60, (SAMPLES, 9)))
    return folder


def text_of(model: Path, samples: int = SAMPLES, length: int = 9) -> DataSpec:
    return DataSpec(source=str(model / "ids.npy"), samples=samples, length=length)


def request_for(model: Path, *, twin: bool = False, data: DataSpec | None = None, **params: object) -> Request:
    return request_of("communities", model, data=data or text_of(model), twin=twin, **QUICK | params)


@pytest.fixture(scope="module")
def result(session, model) -> xr.Dataset:
    dataset = carried_out(session, request_for(model, twin=True)).result()
    assert dataset is not None
    return dataset


@pytest.fixture(scope="module")
def states(model) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Last tokens as attention and as the MLP meet them, by layer, from the library's own forward pass."""
    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    module = opened.module()
    seen: dict[str, torch.Tensor] = {}
    for layer, block in enumerate(module.model.layers):
        for name, part in (("attn", block.input_layernorm), ("mlp", block.post_attention_layernorm)):
            part.register_forward_pre_hook(lambda _, args, key=f"{name}{layer}": seen.update({key: args[0][:, -1]}))
    ids = torch.as_tensor(np.load(model / "ids.npy"))
    with torch.no_grad():
        module(input_ids=ids)
    return [(seen[f"attn{i}"], seen[f"mlp{i}"]) for i in range(LAYERS)]


def test_edges_are_correlations_of_the_last_tokens(result, states):
    for layer in range(LAYERS):
        for site, x in zip(("attn", "mlp"), states[layer], strict=True):
            r = np.corrcoef(x.numpy().T)
            one = result.isel(model=0, layer=layer).sel(site=site)
            there = one.edge_source.values >= 0
            a, b = one.edge_source.values[there], one.edge_target.values[there]
            np.testing.assert_allclose(one.edge_weight.values[there], r[a, b], atol=1e-5)
            assert D * 4 / 2 <= there.sum() <= D * 4
            order = one.order.values.astype(int)
            np.testing.assert_allclose(one.correlation_tiles, r[np.ix_(order, order)], atol=1e-5)


def jacobians(model: Path, layer: int, x: torch.Tensor, site: str) -> torch.Tensor:
    """Mean over samples by ``jacrev``: the token alone at position 0, or the second half of the block."""
    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    block = opened.module().model.layers[layer]

    def whole(one: torch.Tensor) -> torch.Tensor:
        at = torch.zeros(1, 1, dtype=torch.long)
        rope = opened.module().model.rotary_emb(one[None, None], at)
        found = block(one[None, None], position_embeddings=rope, position_ids=at)
        return (found[0] if isinstance(found, tuple) else found)[0].reshape(-1)

    def half(one: torch.Tensor) -> torch.Tensor:
        return one + block.mlp(block.post_attention_layernorm(one))

    of = whole if site == "attn" else half
    return torch.stack([torch.func.jacrev(of)(one) for one in x]).mean(0)


@pytest.mark.parametrize("site", ["attn", "mlp"])
def test_the_operator_is_that_of_automatic_differentiation(result, states, model, site):
    x = states[1][("attn", "mlp").index(site)]
    mean = jacobians(model, 1, x, site).detach().numpy()
    one = result.isel(model=0, layer=1).sel(site=site)
    # The library's norm and softmax run in float32.
    np.testing.assert_allclose(one.column_norm, np.linalg.norm(mean, axis=0), rtol=1e-5)
    u, sigma, vt = np.linalg.svd(mean)
    assert float(one.sigma) == pytest.approx(sigma[0], rel=1e-5)
    assert float(one.self_alignment) == pytest.approx(np.square(vt[:6] @ u[:, :6]).sum() / 6, rel=1e-4)
    labels = proper(one.membership.values.astype(int))
    b = np.stack([(labels == c) / np.sqrt((labels == c).sum()) for c in range(labels.max() + 1)], axis=1)
    projected = b.T @ mean @ b
    share = np.square(projected).sum() / np.square(mean).sum()
    assert float(one.variance_captured) == pytest.approx(share, rel=1e-4)
    assert float(one.mesoscale_sigma) == pytest.approx(np.linalg.norm(projected, 2), rel=1e-4)


@pytest.mark.parametrize("context", ["in_context", "isolated"])
def test_the_operator_is_the_jacobian_analysis_own(session, model, context):
    quick = {"detector": ["cpm"], "gamma_positive": 0.1, "restarts": 1, "permutations": 99, "partitions": 10}
    found = carried_out(session, request_for(model, context=context, **quick)).result()
    of = Request(
        analysis="jacobians",
        params={"samples": "windows", "context": context, "kappa": False, "verify": False, "k": 6},
        models=(ModelSpec(source=str(model), dtype="float64"),), data=text_of(model), device="cpu",
    )  # fmt: skip
    expected = carried_out(session, of).result().sel(component="block")
    here = found.sel(site="attn")
    np.testing.assert_allclose(here.column_norm, expected.column_norm, rtol=1e-6)
    np.testing.assert_allclose(here.self_alignment, expected.self_alignment, rtol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "bert"])
def test_the_second_half_of_other_blocks(family):
    """With biases, in parallel (attention left out), and with the norm after the addition."""
    from engine.jacobians.norms import linearise_norm
    from engine.models.adapters import adapter_for

    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    config, made = {
        "gpt2": (hf.GPT2Config(vocab_size=40, n_embd=8, n_head=2, n_layer=1), hf.GPT2LMHeadModel),
        "gpt_neox": (hf.GPTNeoXConfig(**sizes, intermediate_size=16), hf.GPTNeoXForCausalLM),
        "bert": (hf.BertConfig(**sizes, intermediate_size=16), hf.BertForMaskedLM),
    }[family]
    module = made(config).double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    tensors = module.base_model.state_dict()
    adapter = adapter_for(config)
    block = adapter.block(config, 0, lambda name: tensors[name], "all")
    x = torch.randn(3, 8, dtype=torch.float64)

    def by_hand(one: torch.Tensor) -> torch.Tensor:
        if family == "bert":
            layer = module.bert.encoder.layer[0]
            return layer.output(layer.intermediate(one[None]), one[None])[0]
        if family == "gpt2":
            layer = module.transformer.h[0]
            return one + layer.mlp(layer.ln_2(one[None]))[0]
        layer = module.gpt_neox.layers[0]
        return one + layer.mlp(layer.post_attention_layernorm(one[None]))[0]

    expected = torch.stack([torch.func.jacrev(by_hand)(one) for one in x])
    torch.testing.assert_close(mlp_half(block, x).dense(), expected, rtol=1e-8, atol=1e-8)
    assert linearise_norm(block.mlp_sum, x)[1] is None or family == "bert"


def test_layers_are_compared_with_the_next(result):
    for site in ("attn", "mlp"):
        one = result.isel(model=0).sel(site=site)
        a, b = (proper(one.membership.values[i].astype(int)) for i in (0, 1))
        both = (a >= 0) & (b >= 0)
        assert float(one.nmi_next[0]) == pytest.approx(nmi(a[both], b[both]))
        assert float(one.ari_next[0]) == pytest.approx(adjusted_rand(a[both], b[both]))
        assert float(one.disruption[0]) == pytest.approx(1 - float(one.nmi_next[0]))
        assert np.isnan(one.nmi_next[-1])
        assert np.nansum(one.flow_units[0]) == D
        assert float(one.sigma_change[0]) == pytest.approx(abs(float(one.mesoscale_sigma[1] - one.mesoscale_sigma[0])))
        first = one.lineage.values[0]
        assert first[np.isfinite(first)].tolist() == list(range(int(one.n_communities[0])))


def test_models_stand_side_by_side_and_rates_are_over_layers(result):
    assert result.sizes["model"] == 2
    for name in ("cohens_d", "q_value", "variance_z", "nmi_next", "participation", "detector_median_d", "rate_n"):
        assert result[name].dims[0] == "model"
        assert np.isfinite(result[name].values[1]).any()
    p, q = result.p_value.values[0, 0], result.q_value.values[0, 0]
    ranked = np.sort(p)
    expected = [min(ranked[j] * LAYERS / (j + 1) for j in range(LAYERS) if ranked[j] >= value) for value in p]
    np.testing.assert_allclose(q, np.minimum(expected, 1))
    assert result.sizes["detector"] == 3
    np.testing.assert_array_equal(result.detector_cohens_d.values[..., 0], result.cohens_d.values)
    assert float(result.gamma_chosen[0]) in result.gamma_grid.values[0]
    assert "NMI" in str(result.gamma_reason.values[0]) or "no resolution" in str(result.gamma_reason.values[0])


def test_claims_come_with_numbers(result):
    found = Header.of(result).claims
    assert len(found) == 5  # three for the trained model, one for its twin, and one that compares them
    assert all("null" in claim.measurement or claim.verdict == "cannot say" for claim in found)


def test_growth_over_training_needs_more_than_a_difference():
    """Seven checkpoints and a twin; only their q-values matter to these two claims."""
    rng = np.random.default_rng(0)
    head = ("model", "site", "layer")
    q = np.full((8, 2, 10), 0.5)
    names = ("n_communities", "variance_q", "variance_z", "cohens_d", "rate_n", "tail_top")
    ds = xr.Dataset({name: (head, rng.random(q.shape)) for name in names}).assign(q_value=(head, q))
    for prefix, dims in (("coupling", head[:2]), ("rate", (*head[:2], "rate"))):
        shape = tuple({"model": 8, "site": 2, "rate": 2}[d] for d in dims)
        ds = ds.assign({f"{prefix}_{n}": (dims, np.full(shape, np.nan)) for n in ("rho", "low", "high", "p", "n")})
    labels = [*(f"m@step{i}" for i in range(7)), "m (random twin)"]
    ds = ds.assign_coords(model=labels, site=["attn", "mlp"], rate=["sigma", "variance"])

    def verdicts() -> tuple[str, ...]:
        made = [c for c in claims(ds, [*range(7), None]) if "training" in c.statement]
        return tuple(claim.verdict for claim in made)

    # Against step 0, against the twin, along training: a tail of few units says nothing, and neither does no change.
    assert verdicts() == ("cannot say", "cannot say", "cannot say")
    ds.tail_top.values[:] = 60
    assert verdicts() == ("fails", "fails", "cannot say")
    for m in range(7):
        ds.q_value.values[m, :, : m + 3] = 0.01
    assert verdicts() == ("cannot say", "holds", "holds")  # three layers of ten are so at step 0 already
    ds.q_value.values[:] = 0.5
    ds.q_value.values[6, 0, 0] = 0.01
    assert verdicts()[2] == "cannot say"


def measured(x: np.ndarray, jacobian: torch.Tensor | None, **params: object) -> xr.Dataset:
    rng = np.random.default_rng(0)
    given = CommunitiesParams(**{**QUICK, "detector": ("cpm",), **params})
    return communities_compute._measure(
        torch.from_numpy(x), jacobian, given, params.get("gamma_positive", 0.1), rng, None
    )


def noted(ds: xr.Dataset) -> str:
    """The notes of a model of one layer that measured this at both sites."""
    both = xr.concat([ds.expand_dims(site=[site]) for site in ("attn", "mlp")], "site")
    both = packing.pack(both)
    both.attrs = {"lost": "{}", "refusal": ""}
    spec = ModelSpec(source="builtin")
    from engine.models.opening import describe

    info = describe(spec).model_copy(update={"n_layers": 1, "d_model": ds.sizes["unit"]})
    request = Request(analysis="communities", models=(spec,), data=DataSpec(samples=int(ds.n_samples)))
    params = CommunitiesParams(detector=("cpm",), gamma_positive=0.1, restarts=3)
    merged = assemble(COMMUNITIES, request, params, [info], {"m0-layer-000": both})
    return " ".join(json.loads(merged.attrs["notes"]))


def test_constant_units_are_left_out_and_counted():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 20))
    x[:, [3, 11]] = 5.0
    ds = measured(x, torch.eye(20).double() + 0.1 * torch.randn(20, 20).double())
    assert int(ds.n_constant) == 2
    assert np.flatnonzero(np.isnan(ds.membership)).tolist() == [3, 11]
    assert not np.isin([3, 11], ds.edge_source).any()
    assert np.isfinite(ds.column_norm).all()
    assert "2 at most" in noted(ds)


def test_odd_graphs_say_so_and_keep_going():
    rng = np.random.default_rng(2)
    jacobian = torch.eye(30).double() + 0.1 * torch.randn(30, 30).double()
    noise = measured(rng.standard_normal((6, 30)), jacobian)
    assert float(noise.significant_share) == 0
    assert "1/√N = 0.41" in noted(noise)
    together = rng.standard_normal((60, 1)) + 0.1 * rng.standard_normal((60, 30))
    whole = measured(together, jacobian, gamma_positive=1e-4)
    assert int(whole.n_communities) == 1
    assert np.isnan(whole.cohens_d)
    assert "one community of all units" in noted(whole)
    assert "no negative edges" in noted(whole)
    alone = measured(rng.standard_normal((60, 30)), jacobian, gamma_positive=1.0)
    assert int(alone.n_communities) == 0
    assert np.isnan(alone.variance_captured)
    assert "no community of three units" in noted(alone)
    constant = measured(np.ones((10, 30)), jacobian)
    assert int(constant.n_edges) == 0
    assert "no edges" in noted(constant)
    pair = measured(np.linspace(-1, 1, 9)[:, None] * np.array([1.0, -1.0]), jacobian[:2, :2])
    assert float(pair.negative_share) == 1
    assert "no positive edges" in noted(pair)
    without = measured(rng.standard_normal((60, 30)), None)
    assert np.isnan(without.cohens_d)
    assert np.isfinite(without.participation).any()


def test_requests_that_cannot_succeed_are_refused(session, model):
    with pytest.raises(UserError, match="at least 4"):
        start(session, request_for(model, data=text_of(model, 3)))
    with pytest.raises(UserError, match="which is 64"):
        start(session, request_for(model, data=DataSpec(samples=9, length=65)))


def test_graphml_has_what_the_dataset_has(session, result, tmp_path):
    written = [path for path in export(session.path, "graphml", tmp_path) if "twin" not in path.name]
    path = next(path for path in written if path.name.endswith("mlp-layer-001.graphml"))
    graph = nx.read_graphml(path, node_type=int)
    one = result.isel(model=0, layer=1).sel(site="mlp")
    there = one.edge_source.values >= 0
    edges = zip(
        one.edge_source.values[there], one.edge_target.values[there], one.edge_weight.values[there], strict=True
    )
    assert graph.number_of_edges() == there.sum()
    for a, b, weight in edges:
        assert graph[int(a)][int(b)]["weight"] == pytest.approx(float(weight))
        assert graph[int(a)][int(b)]["sign"] == np.sign(weight)
    for unit, attributes in graph.nodes.items():
        assert attributes["community"] == one.membership.values[unit]
        assert attributes["participation"] == pytest.approx(float(one.participation[unit]))
        assert attributes["x"] == pytest.approx(float(one.position[unit, 0]), rel=1e-5)


def test_snapshots_are_taken_at_the_last_token_of_ragged_samples(model):
    opened: OpenModel = open_model(ModelSpec(source=str(model), dtype="float64"))
    tokens = torch.tensor([[1, 2, 3, 4, 5], [7, 8, 9, -1, -1]])
    stream = ResidualStream(opened.module(), tokens)
    stream.advance()
    attn, mlp = communities_compute._snapshots(stream, opened)
    alone = ResidualStream(opened.module(), tokens[1:, :3])
    alone.advance()
    expected = communities_compute._snapshots(alone, opened)
    order = torch.cat([samples for samples, _ in stream.states(torch.float64)]).tolist()
    row = order.index(1)
    torch.testing.assert_close(attn[row], expected[0][0])
    torch.testing.assert_close(mlp[row], expected[1][0])
    ((_, state),) = alone.states(torch.float64)
    operators = component_operators(opened.block(1, "all"), state, "isolated")
    half = mlp_half(opened.block(1, "all"), expected[1])
    expected_half = torch.eye(D).double() + operators["mlp"].dense()
    assert half.dense().shape == expected_half.shape
