from mshisto_ray.config import main
from mshisto_ray.jobs.train import TrainJobConfig, check, run

if __name__ == "__main__":
    main(TrainJobConfig, run, check)
