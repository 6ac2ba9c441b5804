from mshisto_ray.config import main
from mshisto_ray.jobs.reproduce import ReproduceConfig, check, run

if __name__ == "__main__":
    main(ReproduceConfig, run, check)
