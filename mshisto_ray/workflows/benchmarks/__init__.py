"""Family of benchmarks: ``build(*, ...)`` -> Benchmark."""
