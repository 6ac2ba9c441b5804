from mshisto_ray.config import main
from mshisto_ray.workflows.reproduce import ReproduceConfig, check, run

if __name__ == "__main__":
    main(ReproduceConfig, run, check)
