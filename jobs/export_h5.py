from mshisto_ray.config import main
from mshisto_ray.jobs.export_h5 import ExportConfig, check, run

if __name__ == "__main__":
    main(ExportConfig, run, check)
