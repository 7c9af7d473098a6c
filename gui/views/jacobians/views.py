"""The views of the `jacobians` analysis, in the order of their tabs."""

from gui.views.base import View
from gui.views.claims import claims_view
from gui.views.jacobians import depth as along
from gui.views.jacobians import operators, product, samples, tokens
from gui.views.jacobians.inspection import inspect_sample

NAME = "jacobians"
INSPECT = inspect_sample
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, operators.NavigatorOptions, operators.navigator)

VIEWS: tuple[View, ...] = (
    View("boxes", "By layer", NAME, NAME, samples.BoxOptions, samples.boxplots),
    View("sample", "One sample", NAME, NAME, samples.SampleOptions, samples.one_sample),
    View("tokens", "By token", NAME, NAME, tokens.TokenOptions, tokens.by_token),
    View("cloud", "Eigenvalues", NAME, NAME, operators.CloudOptions, operators.cloud),
    View("clouds", "All layers", NAME, NAME, operators.CloudsOptions, operators.clouds),
    View("depth", "Depth", NAME, NAME, along.DepthOptions, along.profiles),
    View("spectrum", "Singular values", NAME, NAME, operators.SpectrumOptions, operators.spectrum),
    View("columns", "Columns", NAME, NAME, operators.ColumnOptions, operators.columns),
    View("funnel", "Funnel", NAME, NAME, product.FunnelOptions, product.funnel),
    View("surgery", "Surgery", NAME, NAME, product.SurgeryOptions, product.surgery),
    View("compare", "Compare", NAME, NAME, along.CompareOptions, along.compare),
    claims_view(NAME),
)
