"""Side-by-side timings against the published methods: ``python -m benchmarks [NAME ...] [--json]``."""

# One line for each: the name on the command line, and the function that carries it out and returns a Result.
BENCHMARKS = {
    "startup": "benchmarks.startup:startup",
    "weights": "benchmarks.weights:weights",
    "weights_llama": "benchmarks.weights:weights_llama",
}
