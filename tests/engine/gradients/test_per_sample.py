"""Per-sequence gradients from one backward pass, against autograd with one sequence at a time in double precision."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import transformers as hf
from adapter_models import BLOCKS, randomise
from torch import nn

from engine.errors import UserError
from engine.gradients.per_sample import per_sample
from engine.gradients.weights import choose
from engine.models.losses import IGNORED, Batch, Objective, sequence_losses

torch.set_num_threads(1)
SEQUENCES, LENGTHS = 4, (9, 6, 9, 4)


class Tokenizer:
    """As much of one as masking asks for."""

    mask_token_id = 3
    all_special_ids = (0, 1, 2, 3)

    def __len__(self) -> int:
        return 50


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = deepcopy(BLOCKS[name].config)
    auto = hf.AutoModelForMaskedLM if name in ("bert", "roberta") else hf.AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").double().eval()
    randomise(model)
    model.tie_weights()
    return model


def batch_of(causal: bool) -> Batch:
    rng = np.random.default_rng(5)
    tokens = rng.integers(4, 50, size=(SEQUENCES, max(LENGTHS)))
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[length:] = -1
    batch = Objective(causal, 0, Tokenizer(), seed=1).batch(tokens, range(SEQUENCES))
    if causal:  # as the analysis does: no token sees what follows it
        del batch.inputs["attention_mask"]
    return batch


def loop(model: nn.Module, names: list[str], batch: Batch) -> tuple[list[float], list[list[torch.Tensor]]]:
    """The published way: a batch of one, without its padding, and a whole backward pass."""
    model.requires_grad_(True)
    losses, found = [], []
    for x in range(len(batch.targets)):
        length = LENGTHS[x]
        model.zero_grad()
        logits = model(input_ids=batch.inputs["input_ids"][x : x + 1, :length]).logits[0]
        predicted = batch.targets[x, :length]
        loss = nn.functional.cross_entropy(logits[predicted != IGNORED], predicted[predicted != IGNORED])
        loss.backward()
        losses.append(loss.item())
        found.append([model.get_parameter(name).grad.clone() for name in names])
    return losses, found


FAMILIES = [
    "gpt2", "gpt_neox", "llama", "mistral", "qwen3", "olmo2", "gemma2", "gemma3_text", "opt", "opt-post-norm",
    "starcoder2", "bert", "bert-decoder", "roberta", "granite", "phi3", "cohere2", "gpt_bigcode", "bloom",
    "stablelm", "glm4",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_outputs_of_every_family_agree_with_the_loop(name):
    model, batch = model_of(name), batch_of(name not in ("bert", "roberta"))
    weights = choose(model, "attention output", 2)
    assert [weight.layer for weight in weights] == [0, 1]
    losses, gradients = per_sample(model, weights, batch)
    expected_losses, expected = loop(model, [weight.name for weight in weights], batch)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12)
    for x in range(SEQUENCES):
        for of_weight, exact in zip(gradients, expected[x], strict=True):
            torch.testing.assert_close(of_weight.of(x), exact, rtol=1e-9, atol=1e-12 * float(exact.abs().max()))


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("gpt2", "transformer.h.{layer}.attn.c_attn.weight"),  # fused q, k, v, stored transposed
        ("gpt2", "transformer.h.{layer}.mlp.c_fc.weight"),
        ("gpt2", "transformer.wte.weight"),  # embedding and output in one
        ("gpt2", "lm_head.weight"),
        ("gpt2", "transformer.wpe.weight"),  # looked up once for all sequences
        ("gpt_neox", "gpt_neox.layers.{layer}.attention.query_key_value.weight"),
        ("gpt_neox", "lm_head.weight"),  # not tied
        ("llama", "model.layers.{layer}.mlp.gate_proj.weight"),
        ("llama", "model.embed_tokens.weight"),  # a padding id has no gradient
        ("opt", "model.decoder.layers.{layer}.fc1.weight"),  # run on a flattened batch
        ("bert", "bert.encoder.layer.{layer}.attention.self.query.weight"),
        ("bert", "bert.embeddings.word_embeddings.weight"),  # tied to the decoder of the masked tokens
    ],
)
def test_any_matrix_agrees_with_the_loop(name, weight):
    model, batch = model_of(name), batch_of(name != "bert")
    weights = choose(model, weight, 2)
    _, gradients = per_sample(model, weights, batch)
    _, expected = loop(model, [weight.name for weight in weights], batch)
    for x in range(SEQUENCES):
        for of_weight, exact in zip(gradients, expected[x], strict=True):
            assert exact.abs().max() > 0
            torch.testing.assert_close(of_weight.of(x), exact, rtol=1e-9, atol=1e-12 * float(exact.abs().max()))


def test_a_tied_weight_has_two_uses_and_neither_alone_is_its_gradient():
    model = model_of("gpt2")
    (weight,) = choose(model, "transformer.wte.weight", 2)
    assert {use.path for use in weight.uses} == {"transformer.wte", "lm_head"}
    _, ((gradients),) = per_sample(model, (weight,), batch_of(True))
    whole = gradients.of(0)
    for part in gradients.parts:
        assert not torch.allclose(type(gradients)(weight, (part,)).of(0), whole)


def test_parameters_keep_what_they_were_asked_for_and_collect_nothing():
    model = model_of("gpt2").requires_grad_(True)
    model.transformer.wpe.requires_grad_(False)
    per_sample(model, choose(model, "attention output", 2), batch_of(True))
    assert not model.transformer.wpe.weight.requires_grad
    assert model.lm_head.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_one_sequence_that_is_not_finite_leaves_the_others_alone():
    model, batch = model_of("gpt2"), batch_of(True)
    weights = choose(model, "attention output", 2)
    _, alone = per_sample(model, weights, batch)

    def poison(module, args, output):
        output = output.clone()
        output[2] = float("nan")
        return output

    handle = model.transformer.h[0].register_forward_hook(poison)
    losses, gradients = per_sample(model, weights, batch)
    handle.remove()
    assert losses.isfinite().tolist() == [True, True, False, True]
    for of_weight, exact in zip(gradients, alone, strict=True):
        for x in (0, 1, 3):
            torch.testing.assert_close(of_weight.of(x), exact.of(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("transformer.h.{layer}.mlp.c_fcc.weight", "did you mean “transformer.h.{layer}.mlp.c_fc.weight”"),
        ("transformer.h.1.attn.c_prj.weight", "did you mean “transformer.h.1.attn.c_proj.weight”"),
        ("transformer.h.7.attn.c_proj.weight", "no weight “transformer.h.7.attn.c_proj.weight”; did you mean"),
        ("transformer.ln_f.weight", "is not a matrix"),
    ],
)
def test_names_that_do_not_exist_or_are_no_matrix(weight, said):
    with pytest.raises(UserError) as refused:
        choose(model_of("gpt2"), weight, 2)
    assert said in refused.value.message


def test_a_class_that_may_do_more_than_multiply_is_refused():
    with pytest.raises(UserError, match="Gemma3TextScaledWordEmbedding"):
        choose(model_of("gemma3_text"), "model.embed_tokens.weight", 2)


def test_a_single_weight_is_shown_at_its_own_layer():
    model = model_of("gpt2")
    assert [w.layer for w in choose(model, "transformer.h.1.attn.c_proj.weight", 2)] == [1]
    assert [w.layer for w in choose(model, "transformer.wte.weight", 2)] == [0]


def test_a_weight_that_the_loss_does_not_see():
    model = model_of("gpt2")
    model.unused = nn.Linear(3, 3).double()
    with pytest.raises(UserError, match="does not depend"):
        per_sample(model, choose(model, "unused.weight", 2), batch_of(True))


def test_a_model_without_a_language_head():
    model = hf.AutoModel.from_config(deepcopy(BLOCKS["gpt2"].config)).double().eval()
    with pytest.raises(UserError, match="no language-model head"):
        per_sample(model, choose(model, "attention output", 2), batch_of(True))


def test_masks_do_not_depend_on_the_batch_and_spare_special_tokens():
    tokens = np.random.default_rng(0).integers(4, 50, size=(6, 40))
    tokens[:, 0] = 1
    objective = Objective(False, 0, Tokenizer(), seed=4)
    together, alone = objective.batch(tokens, range(6)), objective.batch(tokens, [4])
    assert torch.equal(together.targets[4:5], alone.targets)
    assert torch.equal(together.inputs["input_ids"][4:5], alone.inputs["input_ids"])
    hidden = together.targets != IGNORED
    assert (hidden.sum(1) == round(0.15 * 39)).all()
    assert not hidden[:, 0].any()
    assert (together.inputs["input_ids"][hidden] == 3).float().mean() > 0.5
    assert torch.equal(together.inputs["input_ids"][~hidden], torch.from_numpy(tokens)[~hidden])


def test_masked_loss_needs_a_mask_token():
    with pytest.raises(UserError, match="no mask token"):
        Objective(False, 0, None)


def test_a_sequence_without_a_prediction_has_no_loss():
    losses = sequence_losses(torch.zeros(2, 3, 5), torch.tensor([[1, 2, IGNORED], [IGNORED] * 3]))
    assert losses[0] == pytest.approx(np.log(5))
    assert losses[1].isnan()
