from mshisto_ray.config import main
from mshisto_ray.jobs.evaluate import EvaluateConfig, check, run

if __name__ == "__main__":
    main(EvaluateConfig, run, check)
