from mshisto_ray.config import main
from mshisto_ray.jobs.thresholds import ThresholdsConfig, check, run

if __name__ == "__main__":
    main(ThresholdsConfig, run, check)
