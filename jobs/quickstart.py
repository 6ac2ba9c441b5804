from mshisto_ray.config import main
from mshisto_ray.jobs.quickstart import QuickstartConfig, run

if __name__ == "__main__":
    main(QuickstartConfig, run)
