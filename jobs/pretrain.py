from mshisto_ray.config import main
from mshisto_ray.jobs.pretrain import PretrainJobConfig, check, run

if __name__ == "__main__":
    main(PretrainJobConfig, run, check)
