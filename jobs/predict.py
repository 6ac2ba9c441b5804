from mshisto_ray.config import main
from mshisto_ray.jobs.predict import PredictConfig, check, run

if __name__ == "__main__":
    main(PredictConfig, run, check)
