from mshisto_ray.config import main
from mshisto_ray.distributed.doctor import DoctorConfig, run

if __name__ == "__main__":
    main(DoctorConfig, run)
