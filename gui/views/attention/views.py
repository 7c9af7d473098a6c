"""The views of the `attention` analysis, in the order of their tabs."""

from gui.views.attention import matrix, scaling, statistics, sweep, theory, training
from gui.views.attention.data import NAME
from gui.views.attention.inspection import inspect_head
from gui.views.base import View
from gui.views.claims import claims_view

INSPECT = inspect_head
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, statistics.NavigatorOptions, statistics.navigator)
VIEWS: tuple[View, ...] = (
    View("matrix", "Matrix", NAME, NAME, matrix.MatrixOptions, matrix.matrix),
    View("eigenvalues", "Eigenvalues", NAME, NAME, matrix.EigenOptions, matrix.eigenvalues),
    View("singular", "Singular values", NAME, NAME, matrix.SingularOptions, matrix.singular),
    View("layers", "By layer", NAME, NAME, statistics.LayerOptions, statistics.by_layer),
    View("samples", "By sample", NAME, NAME, statistics.SampleOptions, statistics.by_sample),
    View("relation", "Relations", NAME, NAME, statistics.RelationOptions, statistics.relation),
    View("norms", "Norm scaling", NAME, NAME, scaling.NormOptions, scaling.norms),
    View("laws", "Which law", NAME, NAME, scaling.LawOptions, scaling.laws),
    View("sweep", "Thinned", NAME, NAME, sweep.SweepOptions, sweep.sweep),
    View("theory", "Theory: spectra", NAME, NAME, theory.SpectrumOptions, theory.spectrum),
    View("theory_sparsity", "Theory: sparsity", NAME, NAME, theory.SparsityOptions, theory.sparsity),
    View("theory_training", "Theory: training", NAME, NAME, training.RelaxOptions, training.relaxation),
    claims_view(NAME),
)
