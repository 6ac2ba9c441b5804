from mshisto_ray.config import main
from mshisto_ray.workflows.quickstart import QuickstartConfig, run

if __name__ == "__main__":
    main(QuickstartConfig, run)
