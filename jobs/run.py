from mshisto_ray.config import main
from mshisto_ray.jobs.run import RunConfig, check, run

if __name__ == "__main__":
    main(RunConfig, run, check)
