"""Side-by-side timings against the published methods: ``python -m benchmarks [NAME ...] [--json]``."""

# One line for each: the name on the command line, and the function that carries it out and returns a Result.
BENCHMARKS = {
    "activations": "benchmarks.activations:activations",
    "attention": "benchmarks.attention:attention",
    "attention_diagonal": "benchmarks.attention:attention_diagonal",
    "false_rates": "benchmarks.false_rates:false_rates",
    "gradients": "benchmarks.gradients:gradients",
    "jacobian_top": "benchmarks.jacobian_top:jacobian_top",
    "jacobian_study": "benchmarks.jacobian_study:jacobian_study",
    "communities": "benchmarks.communities:communities",
    "communities_drawing": "benchmarks.communities_drawing:communities_drawing",
    "jacobian_mean": "benchmarks.jacobian_mean:jacobian_mean",
    "scrubbing": "benchmarks.scrubbing:scrubbing",
    "startup": "benchmarks.startup:startup",
    "weights": "benchmarks.weights:weights",
    "weights_llama": "benchmarks.weights:weights_llama",
}
