from mshisto_ray.config import main
from mshisto_ray.jobs.sweep import SweepConfig, check, run

if __name__ == "__main__":
    main(SweepConfig, run, check)
