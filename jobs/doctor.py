from mshisto_ray.config import main
from mshisto_ray.jobs.doctor import DoctorConfig, run

if __name__ == "__main__":
    main(DoctorConfig, run)
