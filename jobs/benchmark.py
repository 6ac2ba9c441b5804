import sys

from mshisto_ray.config import main
from mshisto_ray.jobs.benchmark import BenchmarkConfig, run, to_words

if __name__ == "__main__":
    main(BenchmarkConfig, run, argv=to_words(sys.argv[1:]))
