from mshisto_ray.config import main
from mshisto_ray.jobs.import_h5 import ImportConfig, check, run

if __name__ == "__main__":
    main(ImportConfig, run, check)
