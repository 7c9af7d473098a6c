"""How a declared variable names itself on axes, in titles and in small panels."""

from engine.analyses.variables import Variable

HEAD = ("model", "layer", "head")


def test_a_label_has_what_it_belongs_to_and_its_unit():
    entropy = Variable("entropy", HEAD, "H", "spectral entropy H", "nats", of="W_QK")
    assert entropy.full_name == "spectral entropy H of W_QK"
    assert entropy.label == "spectral entropy H of W_QK (nats)"
    assert entropy.short_label == "spectral entropy H (nats)"


def test_a_symbol_that_the_name_lacks_is_added():
    assert Variable("stable_rank", HEAD, "‖A‖_F²/‖A‖₂²", "stable rank").label == "stable rank, ‖A‖_F²/‖A‖₂²"
    assert Variable("weight", HEAD, "", "name of the weight").label == "name of the weight"
